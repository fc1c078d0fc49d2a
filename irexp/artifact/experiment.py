"""An experiment: overrides, and the configuration that they compose.

An experiment names other experiments by their overrides: the baselines of its table, and those whose runs it re-ranks
(`re_rank.candidates`), fuses (`fuse.runs`) or draws negatives from (`negatives.candidates`), whose scores it learns
(`teacher.scores`) and whose checkpoint it starts from (`artifact.initial`). A row keeps what was typed, and all rows
are trained alike; only a baseline with another model leaves out what may not suit that model, such as the index. Other
experiments inherit what their own overrides do not set, so that `[model=bm25]` is BM25 on the same collection.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from irexp.artifact.content import fetch_revision
from irexp.artifact.spec import StageSpec
from irexp.artifact.stages import KINDS, STAGES, maker
from irexp.artifact.values import Values, is_given, select
from irexp.config.check import ConfigError, check
from irexp.config.command_line import override_faults
from irexp.config.composition import composed_config, copied
from irexp.config.installation import CONF
from irexp.config.override import overruled_faults, single_option_faults
from irexp.config.resolvers import unresolved_environment
from irexp.types import UserError

#: Keys that another experiment inherits from the one that names it.
_SHARED = ("seed", "dataset", "search", "encoding", "evaluation", "machine", "paths")

#: The same for one of conf/experiment, which itself sets everything that determines its run.
_SHARED_WITH_AN_EXPERIMENT = ("machine", "paths")

#: Groups that a baseline resets when it changes the model: those whose option suits a kind of model, and what belongs
#: to these. How models are trained, and their backbone, is for all rows.
_RESET_WITH_MODEL = {
    *("index", "loss", "regularizer", "negatives", "false_negatives", "teacher", "score"),
    *("re_rank", "fuse", "artifact"),
}


@dataclass(frozen=True, eq=False)
class Experiment:
    """A composed configuration and the overrides that compose it.

    Attributes:
        overrides: the overrides typed after `run.py`.
        config: the composed configuration, from which components are instantiated.
        options: the chosen option of each configuration group, for display.
        values: the resolved configuration as plain values, on which every decision is based.
        makers: the stage that makes each kind of artifact.
        skipped: the stages that make nothing in this experiment, and why.
    """

    overrides: tuple[str, ...]
    config: DictConfig
    options: Mapping[str, str] = field(default_factory=dict)
    values: Values = field(init=False)
    makers: Mapping[str, StageSpec] = field(init=False)
    skipped: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Check and resolve the configuration, and fetch the commit of each hub model that is named without one.

        Raises:
            ConfigError: naming every fault.
        """
        object.__setattr__(self, "values", check(self.config))
        object.__setattr__(self, "makers", {kind: maker(self.values, kind) for kind in KINDS})
        reasons = {name: stage.skip_reason(self.values) for name, stage in STAGES.items() if stage.makes is not None}
        object.__setattr__(self, "skipped", {name: reason for name, reason in reasons.items() if reason is not None})
        for path in (
            *("backbone.name_or_path", "model.query_backbone.name_or_path", "artifact.initial", "artifact.checkpoint"),
            "false_negatives.guide",
        ):
            if path != "artifact.checkpoint" or is_given(self.values, "checkpoint"):
                fetch_revision(select(self.values, path), root=self.root)

    @cached_property
    def recorded(self) -> Values:
        """The values as they are recorded and shown: a text from the environment stays `${oc.env:NAME}`."""
        return unresolved_environment(self.config, dict(self.values))

    @cached_property
    def root(self) -> Path:
        """The root folder of the artifacts."""
        return Path(self.values["paths"]["artifacts"])

    @property
    def stages(self) -> list[str]:
        """The stages to run, in the order typed."""
        return list(self.values.get("stage") or {})

    def stage_node(self, name: str) -> DictConfig:
        """The configuration of a stage, which another experiment may need although none of its own stages was asked."""
        if name not in self.config.stage:
            node = OmegaConf.load(CONF / "stage" / f"{name}.yaml")
            assert isinstance(node, DictConfig)
            node.pop("defaults", None)  # stages that were not asked for
            with open_dict(self.config):
                self.config.stage[name] = node
        return self.config.stage[name]  # type: ignore[no-any-return]

    def baseline(self, changes: Sequence[str]) -> Experiment:
        """The baseline that changes make of this experiment: a row above it in its table."""
        return composed(baseline_overrides(self.overrides, changes))

    def cell(self, changes: Sequence[str]) -> Experiment:
        """A cell of a table of named rows and columns: what was typed is for all of them, so also for another model."""
        return composed(changed_overrides(self.overrides, changes))

    def other(self, entry: Sequence[str], topics: str | None, more: Sequence[str] = ()) -> Experiment:
        """Another experiment, named by its overrides, on this experiment's collection.

        Args:
            entry: its overrides.
            topics: the configuration path of the queries that its run answers; None for the test queries.
            more: further overrides, of keys and groups that `entry` does not set.
        """
        typed_keys = {key_of(override) for override in entry}
        added = [o for o in more if key_of(o) not in typed_keys and group_of(o) not in typed_keys]
        entry = [*search_path(self.overrides), *entry, *added]
        own, options = compose_experiment(tuple(entry))
        config = copied(own)
        OmegaConf.set_struct(config, False)
        decided = [key_of(override) for override in entry]
        shared = _SHARED_WITH_AN_EXPERIMENT if "experiment" in decided else _SHARED
        for key in shared:
            if key not in decided:
                config[key] = copy.deepcopy(self.config[key])
        for key in decided:
            if key.partition(".")[0] in _SHARED:  # one value of a group that is otherwise inherited
                OmegaConf.update(config, key, OmegaConf.select(own, key), force_add=True)
        if topics is not None:
            config.dataset.test = copy.deepcopy(OmegaConf.select(self.config, topics))
        kept = [
            o
            for o in self.overrides
            if group_of(o) in shared and key_of(o) not in decided and group_of(o) not in decided
        ]
        typed = [f"dataset.test=${{{topics}}}"] if topics is not None else []
        taken = {group: self.options[group] for group in shared if group not in decided and group in self.options}
        return Experiment((*kept, *entry, *typed), config, {**options, **taken})


def baseline_overrides(overrides: Iterable[str], changes: Sequence[str]) -> list[str]:
    """The overrides of a baseline: the changes, and those of the experiment that the changes do not replace or void."""
    changes_model = any(key_of(change) == "model" for change in changes)
    kept = [override for override in overrides if not (changes_model and group_of(override) in _RESET_WITH_MODEL)]
    return changed_overrides(kept, changes)


def changed_overrides(overrides: Iterable[str], changes: Sequence[str]) -> list[str]:
    """The overrides less those of groups that the changes replace, and then the changes."""
    replaced = {
        key_of(change) for change in changes if "." not in key_of(change) and "@" not in change.partition("=")[0]
    }
    return [override for override in overrides if group_of(override) not in replaced] + list(changes)


def search_path(overrides: Iterable[str]) -> list[str]:
    """What of some overrides says where option files are, besides conf/."""
    return [override for override in overrides if key_of(override) == "hydra.searchpath"]


def composed(overrides: Iterable[str]) -> Experiment:
    """The experiment that overrides compose.

    Raises:
        UserError: if they do not compose, or the configuration has faults.
    """
    config, options = compose_experiment(tuple(overrides))
    return Experiment(tuple(overrides), copied(config), options)


@functools.cache
def compose_experiment(overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
    """The composed configuration and the chosen option of each group.

    Raises:
        UserError: if the overrides do not compose.
    """
    try:
        config, options = composed_config(overrides, str(CONF))
    except HydraException as error:
        if faults := override_faults(overrides):
            raise ConfigError(faults) from error
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the overrides {' '.join(overrides)} do not compose: {reason}") from error
    if faults := [*single_option_faults(options, config, overrides), *overruled_faults(config, overrides)]:
        raise ConfigError(faults)
    return config, {group: option for group, option in options.items() if not group.startswith("hydra")}


def key_of(override: str) -> str:
    """The key of an override, without its package."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def group_of(override: str) -> str:
    """The first part of an override's key."""
    return key_of(override).partition(".")[0]
