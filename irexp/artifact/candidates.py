"""The runs of other experiments: what is re-ranked or fused, and where training negatives come from.

`re_rank.candidates`, `negatives.candidates` and each of `fuse.runs` hold the overrides of an experiment, as a baseline
does, or a run from elsewhere. What the overrides do not decide is taken from the configuration at hand, so that
`[model=bm25]` is BM25 on its collection; negatives are searched for with its training queries, and the weights of a
fusion are tuned on its development queries.
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

#: The same where it is one of conf/experiment, which says everything that determines its run.
_SHARED_WITH_AN_EXPERIMENT = ("machine", "paths")

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
    topics: Any = None
    if section == "negatives":
        topics = OmegaConf.select(config, "dataset.train.topics")
        if topics is None:
            raise UserError("negatives.candidates needs training queries to search with; dataset.train has no topics")
    return other_config(config, config[section].candidates, topics)


def fused_configs(config: DictConfig, *, dev: bool) -> list[DictConfig | str]:
    """What is fused, on the test or the development queries: configurations of experiments, and runs from elsewhere.

    A run from elsewhere has its twin on the development queries in `fuse.dev_runs`, at the same place.
    """
    topics = OmegaConf.select(config, "dataset.dev") if dev else None
    given = config.fuse.dev_runs if dev and config.fuse.dev_runs is not None else config.fuse.runs
    return [
        str(twin) if isinstance(entry, str) else other_config(config, entry, topics)
        for entry, twin in zip(config.fuse.runs, given, strict=True)
    ]


def fused_runs(config: DictConfig, *, dev: bool) -> list[str] | None:
    """The runs that are fused: identifiers and paths; None for none."""
    if OmegaConf.select(config, "fuse.runs") is None or (dev and not is_tuned(config)):
        return None
    return [other if isinstance(other, str) else str(other.artifact.run) for other in fused_configs(config, dev=dev)]


def is_tuned(config: DictConfig) -> bool:
    """Whether the weights of a fusion are found on the development queries."""
    return bool(config.fuse.method == "wsum" and config.fuse.weights is None)


def other_config(config: DictConfig, entry: Any, topics: Any) -> DictConfig:
    """The configuration of an experiment by its overrides, on this one's collection, with other queries if given."""
    overrides = [str(override) for override in entry]
    composed = compose_experiment(tuple(overrides))
    other = copy.deepcopy(composed)
    OmegaConf.set_struct(other, False)
    decided = [override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides]
    for key in _SHARED_WITH_AN_EXPERIMENT if "experiment" in decided else _SHARED:
        if key not in decided:
            other[key] = copy.deepcopy(config[key])
    for key in decided:
        if key.partition(".")[0] in _SHARED:  # a value of what is shared otherwise
            OmegaConf.update(other, key, OmegaConf.select(composed, key), force_add=True)
    if topics is not None:
        other.dataset.test = copy.deepcopy(topics)
    return other


@functools.cache
def compose_experiment(overrides: tuple[str, ...]) -> DictConfig:
    """The composed configuration; it costs a third of a second.

    Raises:
        UserError: if the overrides do not compose.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    try:
        if GlobalHydra.instance().is_initialized():
            return compose("config", overrides=list(overrides))
        with initialize_config_dir(str(_CONF), version_base="1.3"):
            return compose("config", overrides=list(overrides))
    except HydraException as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the overrides {' '.join(overrides)} compose no experiment: {reason}") from error
