"""The run of another experiment: what is re-ranked, and where training negatives come from.

`re_rank.candidates` and `negatives.candidates` hold the overrides of that experiment, as a baseline does, or a run from
elsewhere. What the overrides do not decide is taken from the configuration at hand, so that `[model=bm25]` is BM25 on
its collection; negatives are searched for with its training queries.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from irexp.types import UserError

Section = Literal["re_rank", "negatives"]

#: What another experiment shares with the one at hand.
_SHARED = ("seed", "dataset", "search", "encoding", "evaluation", "machine", "paths")

_CONF = Path(__file__).parents[2] / "conf"


def candidates_of(config: DictConfig, section: Section) -> str | None:
    """The run that a section names: an identifier, a path, or None for none."""
    candidates = OmegaConf.select(config, f"{section}.candidates")
    if candidates is None or isinstance(candidates, str):
        return candidates
    run = candidate_config(config, section).artifact.run
    if run is None:
        raise UserError(f"{section}.candidates={list(candidates)} makes no run")
    return str(run)


def candidate_config(config: DictConfig, section: Section) -> DictConfig:
    """The configuration of the experiment that a section's overrides name."""
    overrides = [str(override) for override in config[section].candidates]
    other = copy.deepcopy(_compose(tuple(overrides)))
    OmegaConf.set_struct(other, False)
    decided = {override.lstrip("+~").partition("=")[0].partition(".")[0] for override in overrides}
    for key in _SHARED:
        if key not in decided and not (key == "dataset" and "experiment" in decided):
            other[key] = copy.deepcopy(config[key])
    if section == "negatives":
        topics: Any = OmegaConf.select(config, "dataset.train.topics")
        if topics is None:
            raise UserError("negatives.candidates needs training queries to search with; dataset.train has no topics")
        other.dataset.test = copy.deepcopy(topics)
    return other


@functools.cache
def _compose(overrides: tuple[str, ...]) -> DictConfig:
    """The composed configuration; it costs a third of a second."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():
        return compose("config", overrides=list(overrides))
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))
