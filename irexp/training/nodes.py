"""The rank of this node, from the environment variables of torchrun, Slurm or the user."""

import os

#: Environment variables with the rank of this node, in order of precedence.
_NAMES = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")


def node_rank(num_nodes: int) -> int:
    """The rank of this node among those that run the same command; 0 if it is the only one."""
    if num_nodes == 1:
        return 0
    return int(next((os.environ[name] for name in _NAMES if name in os.environ), 0))
