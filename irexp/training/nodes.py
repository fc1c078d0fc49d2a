"""Which node this is, by the variables of torchrun, Slurm or the user."""

import os

#: What says which node this is, in the order in which they count.
_NAMES = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")


def node_rank(num_nodes: int) -> int:
    """The number of this node among those that run the same command; 0 if it is the only one."""
    if num_nodes == 1:
        return 0
    return int(next((os.environ[name] for name in _NAMES if name in os.environ), 0))
