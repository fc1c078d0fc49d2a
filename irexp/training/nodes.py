"""Several nodes that run the same command: the rank of this one, and the address at which all meet.

They come from the environment variables of torchrun, Slurm or the user.
"""

from __future__ import annotations

import os

from irexp.types import UserError

#: Environment variables with the rank of this node, in order of precedence.
_NAMES = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")

#: The range of ports, from which a Slurm job's number selects one.
_FIRST_PORT, _PORTS = 15_000, 10_000


def node_rank(num_nodes: int) -> int:
    """The rank of this node among those that run the same command; 0 if it is the only one."""
    if num_nodes == 1:
        return 0
    return int(next((os.environ[name] for name in _NAMES if name in os.environ), 0))


def meeting_point() -> tuple[str, int]:
    """The address of the first of several nodes, and a port on it that is equal on all nodes.

    Raises:
        UserError: if neither MASTER_ADDR and MASTER_PORT nor a Slurm job tell them.
    """
    nodes, job = os.environ.get("SLURM_JOB_NODELIST"), os.environ.get("SLURM_JOB_ID")
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if (address is None and nodes is None) or (port is None and job is None):
        raise UserError(
            "machine.num_nodes: the nodes do not know where to meet; set MASTER_ADDR to the address of the first node "
            "and MASTER_PORT to a free port on it, the same on all nodes"
        )
    if address is None:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # takes seconds to import

        address = SLURMEnvironment.resolve_root_node_address(str(nodes))
    return address, int(port) if port is not None else _FIRST_PORT + int(str(job)) % _PORTS
