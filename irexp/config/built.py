"""From a node of the configuration to its object."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from irexp.types import UserError


def built(node: Any, **objects: Any) -> Any:
    """The object of a node with `_target_`; an error that the user can fix is raised as it is, without Hydra's frame.

    Args:
        node: of a composed configuration.
        objects: arguments that are objects already.

    Raises:
        UserError: if a constructor refuses a value.
    """
    try:
        return instantiate(node, _convert_="object", **objects)
    except InstantiationException as error:
        cause: BaseException | None = error
        while isinstance(cause, InstantiationException):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise
