"""What a stage is: the artifact that it makes, its inputs, and the settings that decide the content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from irexp.artifact.values import Values, Way, is_given, select, way_of


def always(values: Values) -> bool:
    """True, whatever the experiment."""
    return True


def never(values: Values) -> bool:
    """False, whatever the experiment."""
    return False


def nothing(values: Values) -> Mapping[str, Any]:
    """No keys, whatever the experiment."""
    return {}


@dataclass(frozen=True)
class Setting:
    """A part of the configuration that determines content.

    Attributes:
        path: its dotted path; `index` means the settings that build the engine, `index.search` those of its search.
        without: keys that are excluded, because they enter elsewhere or not at all.
        when: whether it applies to an experiment.
        ignored: its keys without effect in an experiment, with the value of each that enters whatever it is set to.
    """

    path: str
    without: tuple[str, ...] = ()
    when: Callable[[Values], bool] = always
    ignored: Callable[[Values], Mapping[str, Any]] = nothing


@dataclass(frozen=True)
class Own:
    """An input that is an artifact of the same experiment.

    Attributes:
        kind: its kind.
        decides: whether it is part of the identity.
        handed: whether the stage's function receives its path.
        optional: whether an experiment may lack it (BM25 has no checkpoint).
        if_exists: whether it is used only if it exists, and never made for this stage.
        is_made: whether a job that needs it makes it unasked, like the run of another experiment.
        when: whether an experiment needs it.
    """

    kind: str
    decides: bool = True
    handed: bool = True
    optional: bool = False
    if_exists: bool = False
    is_made: bool = False
    when: Callable[[Values], bool] = always


@dataclass(frozen=True)
class Other:
    """An input that is an artifact of another experiment, or those of several.

    Attributes:
        setting: the setting that holds the other's overrides or names a given artifact.
        kind: its kind.
        trains: whether `stage=fit` makes it even if that trains another model.
        topics: the path of the setting that holds the queries; None for the test queries.
        several: whether the setting lists several.
        is_alone: whether one experiment's overrides, or one file, may stand there without a list around it.
        hint: how to do without it, for the message where the dataset does not set `topics`.
        twins: the path of the setting that lists the given runs that answer `topics`, in the same order.
        when: whether an experiment needs it.
    """

    setting: str
    kind: str = "run"
    trains: bool = False
    topics: str | None = None
    hint: str = ""
    several: bool = False
    is_alone: bool = False
    twins: str | None = None
    when: Callable[[Values], bool] = always


@dataclass(frozen=True)
class Rows:
    """The measures of all cells of the job's table; None, for all of the store, if the job makes none."""


@dataclass(frozen=True)
class This:
    """The experiment itself, for a stage that plans variations of it."""


Source = Own | Other | Rows | This


@dataclass(frozen=True)
class StageSpec:
    """A stage.

    Attributes:
        name: as typed; also the name of its file in conf/stage.
        makes: the kind of artifact; None if it only reads, writes or prints.
        inputs: by name, in the order of the function's parameters after the folder.
        settings: the settings that determine the content.
        version: raised by hand when a change of the code changes the content, so that no stale artifact is used.
        is_raised: whether an experiment's version is one higher, since a change changed the content of such ones alone.
        resumes: whether it continues what a killed process left.
        shared: whether several nodes work on it.
        divides: whether independent processes can each make a share of it, in any order, before it is completed.
        logged: whether its function takes the job's logger and trial.
        previews: whether a dry run calls its function, too, which then only says what it would do.
        ways: the ways of making a run that use it.
        unless_given: the kinds of artifacts that make it unnecessary if they are given.
        extra_skip_reason: a further reason to skip it in an experiment; None if there is none.
    """

    name: str
    makes: str | None = None
    inputs: Mapping[str, Source] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    version: int = 1
    is_raised: Callable[[Values], bool] = never
    resumes: bool = False
    shared: bool = False
    divides: bool = False
    logged: bool = False
    previews: bool = False
    ways: tuple[Way, ...] = ("searched", "re-ranked", "fused")
    unless_given: tuple[str, ...] = ()
    extra_skip_reason: Callable[[Values], str | None] = lambda values: None

    def __reduce__(self) -> tuple[Callable[[str], StageSpec], tuple[str]]:
        """Pickled and copied by its name, so that a plan names the same stage in another process."""
        from irexp.artifact.stages import stage_of  # which lists the stages

        return stage_of, (self.name,)

    def skip_reason(self, values: Values) -> str | None:
        """Why an experiment skips this stage; None if it does not."""
        name = select(values, "model.name")
        if self.makes in values["artifact"] and values["artifact"][self.makes] is None:
            return f"{name} has no {self.makes}"
        for kind in (self.makes, *self.unless_given):
            if kind is not None and is_given(values, kind):
                return f"artifact.{kind}={values['artifact'][kind]} is given"
        way = way_of(values)
        if way in self.ways:
            return self.extra_skip_reason(values)
        if way == "searched" or self.ways == ("fused",):
            return "nothing is fused" if self.ways == ("fused",) else "nothing is re-ranked"
        return "other runs are fused" if way == "fused" else "another run is re-ranked"
