"""Several losses at once: `loss=[kl_divergence,margin_mse]`, typed or in a file, composes their weighted sum.

Hydra would merge the files of a list into one node. Here a list of losses stands for one option, which is stored when
it is first asked for, and has each loss at a place of its own:

    loss:
      _target_: irexp.loss.weighted_sum.WeightedSum
      losses: {kl_divergence: {...}, margin_mse: {...}}
      weights: {kl_divergence: 1.0, margin_mse: 1.0}
"""

from __future__ import annotations

from collections.abc import KeysView
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.default_element import GroupDefault
from hydra.errors import ConfigCompositionException

#: The group of which a list is a sum.
GROUP = "loss"

_is_list = GroupDefault.is_options


class _Options(dict[str, Any]):
    """The stored options of the group.

    They are found by their names and not listed, so that neither `loss=glob(*)` nor an error message offers them.
    """

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """None: a list of options does not have sums."""
        return dict[str, Any]().keys()


def register_several_losses() -> None:
    """Let a list of losses compose, on the command line and in the defaults of a file."""
    ConfigStore.instance().repo.setdefault(GROUP, _Options())
    # Hydra copies its store for each composition, and for each group that --help lists; it copies what it loads, too.
    # Not copied, it takes half as long to list them, and an option that is stored in a composition is found by it.
    ConfigStore.__deepcopy__ = _itself  # type: ignore[attr-defined]
    # Hydra asks this of each default, once its option is known
    GroupDefault.is_options = _is_options  # type: ignore[method-assign,assignment]


def _itself(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
    return store


def _is_options(default: GroupDefault) -> bool:
    """Whether a default names several options that Hydra merges; a list of losses becomes one option."""
    if isinstance(default.value, list) and (default.group or "").strip("/") == GROUP:
        default.value = _option([str(name) for name in default.value])
    return _is_list(default)


def _option(names: list[str]) -> str:
    """The option of the sum of losses, which is stored under their names.

    Raises:
        ConfigCompositionException: if there is none, or one is named twice.
    """
    if not names or len(set(names)) < len(names):
        raise ConfigCompositionException(f"loss=[{','.join(names)}]: name one or more losses, each once")
    if len(names) == 1:
        return names[0]
    option = "+".join(names)
    node = {
        "defaults": [*({f"/{GROUP}@losses.{name}": name} for name in names), "_self_"],
        "_target_": "irexp.loss.weighted_sum.WeightedSum",
        "weights": dict.fromkeys(names, 1.0),
    }
    ConfigStore.instance().store(group=GROUP, name=option, node=node)
    return option
