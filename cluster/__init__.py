"""Where it runs: starting or joining Ray, and remembering what was in hand when a worker was lost."""
