"""The only list of stages: what each makes, from what, and when it is skipped.

An artifact's name ends in a digest of exactly the settings and inputs that are listed here; a setting that is not
listed (paths, logger, most of machine) changes no name. A stage that is not in `STAGES` does not exist, even if
conf/stage has a file for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: A composed experiment as plain values.
Values = Mapping[str, Any]

#: How an experiment makes its run.
Way = Literal["searched", "re-ranked", "fused"]

#: The value of `artifact.<kind>` where the experiment makes the artifact itself.
OWN = "own"


def select(values: Values, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def way_of(values: Values) -> Way:
    """How an experiment makes its run; no other code decides it."""
    if select(values, "fuse.runs") is not None:
        return "fused"
    return "re-ranked" if select(values, "re_rank.candidates") is not None else "searched"


def ships_candidates(values: Values) -> bool:
    """Whether the re-ranked documents are part of a collection: `re_rank.candidates` is a component."""
    return isinstance(select(values, "re_rank.candidates"), Mapping)


def is_given(values: Values, kind: str) -> bool:
    """Whether an artifact is given: `artifact.<kind>` is an identifier, a path or a hub name."""
    value = select(values, f"artifact.{kind}")
    return value is not None and str(value) != OWN


def is_trained(values: Values) -> bool:
    """Whether fine-tuning changes the weights; with training=none it does not."""
    return bool(select(values, "training.steps") != 0)


def draws_negatives(values: Values) -> bool:
    """Whether training needs a run for its negatives; without training examples the fault is that there are none."""
    return is_trained(values) and select(values, "dataset.train") is not None


def is_tuned(values: Values) -> bool:
    """Whether the weights of a fusion are tuned on the development queries."""
    return select(values, "fuse.method") == "wsum" and select(values, "fuse.weights") is None


def _always(values: Values) -> bool:
    return True


@dataclass(frozen=True)
class Setting:
    """A part of the configuration that determines content.

    Attributes:
        path: its dotted path; `index` means the settings that build the engine, `index.search` those of its search.
        without: keys that are excluded, because they enter elsewhere or not at all.
        when: whether it applies to an experiment.
    """

    path: str
    without: tuple[str, ...] = ()
    when: Callable[[Values], bool] = _always


@dataclass(frozen=True)
class Own:
    """An input that is an artifact of the same experiment.

    Attributes:
        kind: its kind.
        decides: whether it is part of the identity.
        handed: whether the stage's function receives its path.
        optional: whether an experiment may lack it (BM25 has no checkpoint).
        if_exists: whether it is used only if it exists, and never made for this stage.
    """

    kind: str
    decides: bool = True
    handed: bool = True
    optional: bool = False
    if_exists: bool = False


@dataclass(frozen=True)
class Other:
    """An input that is the run of another experiment, or the runs of several.

    Attributes:
        setting: the setting that holds the other's overrides or names a given run; a component there is not an input.
        topics: the path of the setting that holds the queries; None for the test queries.
        several: whether the setting lists several.
        hint: how to do without it, for the message where the dataset does not set `topics`.
        twins: the path of the setting that lists the given runs that answer `topics`, in the same order.
        when: whether an experiment needs it.
    """

    setting: str
    topics: str | None = None
    hint: str = ""
    several: bool = False
    twins: str | None = None
    when: Callable[[Values], bool] = _always


@dataclass(frozen=True)
class Named:
    """An input that is always given: by an identifier, a path or a hub name.

    Attributes:
        setting: the path of the setting that names it; null if an experiment has none.
        kind: its kind.
    """

    setting: str
    kind: str


@dataclass(frozen=True)
class Rows:
    """The measures of all cells of the job's table; None, for all of the store, if the job makes none."""


@dataclass(frozen=True)
class This:
    """The experiment itself, for a stage that plans variations of it."""


Source = Own | Other | Named | Rows | This


@dataclass(frozen=True)
class StageSpec:
    """A stage.

    Attributes:
        name: as typed; also the name of its file in conf/stage.
        makes: the kind of artifact; None if it only reads, writes or prints.
        inputs: by name, in the order of the function's parameters after the folder.
        settings: the settings that determine the content.
        version: raised by hand when a change of the code changes the content, so that no stale artifact is used.
        resumes: whether it continues what a killed process left.
        shared: whether several nodes work on it.
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
    resumes: bool = False
    shared: bool = False
    logged: bool = False
    previews: bool = False
    ways: tuple[Way, ...] = ("searched", "re-ranked", "fused")
    unless_given: tuple[str, ...] = ()
    extra_skip_reason: Callable[[Values], str | None] = lambda values: None

    def __reduce__(self) -> tuple[Callable[[str], StageSpec], tuple[str]]:
        """Pickled and copied by its name, so that a plan names the same stage in another process."""
        return _stage, (self.name,)

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


def _stage(name: str) -> StageSpec:
    return STAGES[name]


def _settings(*paths: str, when: Callable[[Values], bool] = _always) -> tuple[Setting, ...]:
    return tuple(Setting(path, when=when) for path in paths)


def _no_judgements(values: Values) -> str | None:
    test = values["dataset"]["test"]
    if test is None:
        return "the dataset has no test queries"
    is_unjudged = "qrels_path" in test and test["qrels_path"] is None
    return "dataset.test.qrels_path=null: there are no judgements" if is_unjudged else None


_TRAINING = (
    *("loss", "regularizer", "adapter", "dataset.documents", "dataset.train", "dataset.dev"),
    *("training", "optimizer", "schedule", "validation"),
)

#: The keys about measuring enter the identity of the measures, not that of the run.
_TEST_QUERIES = Setting("dataset.test", without=("relevance", "remove_query"))

STAGES: dict[str, StageSpec] = {
    stage.name: stage
    for stage in (
        StageSpec(
            "fit",
            makes="checkpoint",
            inputs={
                "negatives": Other(
                    "negatives.candidates",
                    topics="dataset.train.topics",
                    hint="set negatives=none to train with the negatives that its examples name",
                    when=draws_negatives,
                ),
                "initial": Named("artifact.initial", "checkpoint"),
            },
            settings=(
                *_settings("seed", "model"),
                *_settings(*_TRAINING, when=is_trained),
                Setting("negatives", without=("candidates",), when=is_trained),
            ),
            version=2,
            resumes=True,
            shared=True,
            logged=True,
            ways=("searched", "re-ranked"),
            unless_given=("run",),
        ),
        StageSpec(
            "encode",
            makes="encoding",
            inputs={"checkpoint": Own("checkpoint")},
            settings=(Setting("model", without=("query_length",)), *_settings("dataset.documents", "encoding")),
            version=3,
            resumes=True,
            shared=True,
            ways=("searched",),
            unless_given=("index", "run"),
        ),
        StageSpec(
            "index",
            makes="index",
            inputs={"encoding": Own("encoding", optional=True)},
            settings=_settings("dataset.documents", "index"),
            version=2,
            resumes=True,
            shared=True,
            ways=("searched",),
            unless_given=("run",),
        ),
        StageSpec(
            "search",
            makes="run",
            inputs={"index": Own("index"), "checkpoint": Own("checkpoint", optional=True)},
            settings=(*_settings("index.search", "model"), _TEST_QUERIES, Setting("search")),
            version=4,
            ways=("searched",),
        ),
        StageSpec(
            "re_rank",
            makes="run",
            inputs={"candidates": Other("re_rank.candidates"), "checkpoint": Own("checkpoint")},
            settings=(
                *(*_settings("model", "dataset.documents"), _TEST_QUERIES),
                *(Setting("re_rank", without=("candidates",)), Setting("re_rank.candidates", when=ships_candidates)),
            ),
            version=4,
            resumes=True,
            ways=("re-ranked",),
        ),
        StageSpec(
            "fuse",
            makes="run",
            inputs={
                "fused": Other("fuse.runs", several=True),
                "fused_dev": Other(
                    "fuse.runs",
                    topics="dataset.dev",
                    hint="set fuse.weights",
                    several=True,
                    twins="fuse.dev_runs",
                    when=is_tuned,
                ),
            },
            settings=(
                *(_TEST_QUERIES, *_settings("dataset.dev", when=is_tuned)),
                Setting("fuse", without=("runs", "dev_runs")),
            ),
            version=5,
            ways=("fused",),
        ),
        StageSpec(
            "evaluate",
            makes="measures",
            inputs={"run": Own("run")},
            settings=_settings("dataset.test", "evaluation.measures"),
            extra_skip_reason=_no_judgements,
        ),
        StageSpec(
            "speed",
            makes="speed",
            inputs={
                "run": Own("run", handed=False),
                "index": Own("index", decides=False),
                "checkpoint": Own("checkpoint", decides=False, optional=True),
                "encoding": Own("encoding", decides=False, optional=True),
            },
            settings=_settings("machine.accelerator", "machine.threads", "processor"),
            version=2,
            ways=("searched",),
            unless_given=("run",),
        ),
        StageSpec("prepare", inputs={"experiment": This()}, previews=True),
        StageSpec("tune", inputs={"experiment": This()}),
        StageSpec("export", inputs={"encoding": Own("encoding"), "checkpoint": Own("checkpoint")}),
        StageSpec("push", inputs={"checkpoint": Own("checkpoint"), "measures": Own("measures", if_exists=True)}),
        StageSpec("report", inputs={"rows": Rows()}),
        StageSpec("check", inputs={"rows": Rows(), "experiment": This()}),
        StageSpec("verify"),
        StageSpec("status"),
        StageSpec("why"),
        StageSpec("show"),
        StageSpec("clean"),
    )
}

#: The kinds of artifacts, each after the kinds that it is made from.
KINDS: tuple[str, ...] = tuple(dict.fromkeys(stage.makes for stage in STAGES.values() if stage.makes is not None))


def maker(values: Values, kind: str) -> StageSpec:
    """The stage that makes a kind of artifact in an experiment."""
    way = way_of(values)
    return next(stage for stage in STAGES.values() if stage.makes == kind and (way in stage.ways or kind != "run"))
