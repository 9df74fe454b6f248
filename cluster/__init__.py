"""Where it runs: starting or joining Ray, operators on GPUs, files to nodes, and what a dead worker had in hand."""
