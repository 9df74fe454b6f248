"""What can be wrong with the cluster.

ClusterError    Ray cannot be started or joined
"""


class ClusterError(Exception):
    """Root of what `pinakes.cluster` raises."""
