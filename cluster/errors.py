"""What can be wrong with the cluster.

ClusterError    Ray cannot be started or joined; GPUs that are asked for are not there, not free or too small; files
                cannot be brought to a node
"""


class ClusterError(Exception):
    """Root of what `pinakes.cluster` raises."""
