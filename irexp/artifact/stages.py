"""The only list of stages: what each makes, of what, and when it makes nothing.

An artifact is named by a digest over the settings and inputs that are listed here, and by nothing else; a setting that
is absent (paths, logger, most of machine) changes no name. A stage that is not in `STAGES` does not exist, whatever
lies in conf/stage.
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
    """The value at a dotted path; None where there is none."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def way_of(values: Values) -> Way:
    """How an experiment makes its run; the one place that decides it."""
    if select(values, "fuse.runs") is not None:
        return "fused"
    return "re-ranked" if select(values, "re_rank.candidates") is not None else "searched"


def is_given(values: Values, kind: str) -> bool:
    """Whether an artifact comes from elsewhere: `artifact.<kind>` is an identifier, a path or a hub name."""
    value = select(values, f"artifact.{kind}")
    return value is not None and str(value) != OWN


def is_trained(values: Values) -> bool:
    """Whether fine-tuning changes the weights at all; with training=none it does not."""
    return bool(select(values, "training.steps") != 0)


def is_tuned(values: Values) -> bool:
    """Whether the weights of a fusion are found on the development queries."""
    return select(values, "fuse.method") == "wsum" and select(values, "fuse.weights") is None


def _always(values: Values) -> bool:
    return True


@dataclass(frozen=True)
class Setting:
    """A part of the configuration that decides content.

    Attributes:
        path: where it stands; `index` is what an engine is built with, `index.search` what it is searched with.
        without: keys of it that enter otherwise, or not at all.
        when: whether it decides anything.
    """

    path: str
    without: tuple[str, ...] = ()
    when: Callable[[Values], bool] = _always


@dataclass(frozen=True)
class Own:
    """An artifact of the same experiment.

    Attributes:
        kind: which.
        decides: whether it is part of the identity.
        handed: whether the stage's function gets its path.
        optional: whether there may be none (BM25 has no checkpoint).
        if_there: whether it is handed only if it has been made already, and never made for this stage.
    """

    kind: str
    decides: bool = True
    handed: bool = True
    optional: bool = False
    if_there: bool = False


@dataclass(frozen=True)
class Other:
    """The run of another experiment, or of several.

    Attributes:
        setting: where its overrides stand, or an identifier or path of a run from elsewhere.
        topics: where the queries stand that it answers; None for the test queries.
        several: whether the setting lists several.
        twins: where the runs from elsewhere stand that answer `topics`, in the order of the setting.
        when: whether it is needed.
    """

    setting: str
    topics: str | None = None
    several: bool = False
    twins: str | None = None
    when: Callable[[Values], bool] = _always


@dataclass(frozen=True)
class Rows:
    """The measures of this experiment and its baselines, if the job measures them; None for all there are."""


@dataclass(frozen=True)
class This:
    """The experiment itself, for a stage that plans variations of it."""


Source = Own | Other | Rows | This


@dataclass(frozen=True)
class StageSpec:
    """A stage.

    Attributes:
        name: as it is typed, the file of conf/stage.
        makes: the kind of artifact; None if it only reads, writes or prints.
        inputs: by name, in the order in which the stage's function takes them after the folder.
        settings: what of the configuration decides the content.
        version: raised by hand when the code changes what it makes, so that nothing stale is used.
        resumes: whether it continues what a killed process left.
        shared: whether several nodes take part.
        logged: whether it takes the job's logger.
        ways: the ways of making a run that it has a part in.
        unless_given: artifacts that make it needless when they come from elsewhere.
        skipped: a further reason why it makes nothing here; None if it does.
    """

    name: str
    makes: str | None = None
    inputs: Mapping[str, Source] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    version: int = 1
    resumes: bool = False
    shared: bool = False
    logged: bool = False
    ways: tuple[Way, ...] = ("searched", "re-ranked", "fused")
    unless_given: tuple[str, ...] = ()
    skipped: Callable[[Values], str | None] = lambda values: None

    def left_out(self, values: Values) -> str | None:
        """Why this stage makes nothing in an experiment; None if it makes its artifact."""
        name = select(values, "model.name")
        if self.makes in values["artifact"] and values["artifact"][self.makes] is None:
            return f"{name} has no {self.makes}"
        for kind in (self.makes, *self.unless_given):
            if kind is not None and is_given(values, kind):
                return f"artifact.{kind}={values['artifact'][kind]} is given"
        way = way_of(values)
        if way in self.ways:
            return self.skipped(values)
        if way == "searched" or self.ways == ("fused",):
            return "nothing is fused" if self.ways == ("fused",) else "nothing is re-ranked"
        return "other runs are fused" if way == "fused" else "another run is re-ranked"


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
    *("training", "optimizer", "schedule"),
)

#: How results are measured is part of what measures are made from, and not of the run.
_TEST_QUERIES = Setting("dataset.test", without=("relevance", "remove_query"))

STAGES: dict[str, StageSpec] = {
    stage.name: stage
    for stage in (
        StageSpec(
            "fit",
            makes="checkpoint",
            inputs={"negatives": Other("negatives.candidates", topics="dataset.train.topics", when=is_trained)},
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
                *_settings("model", "dataset.documents"),
                _TEST_QUERIES,
                Setting("re_rank", without=("candidates",)),
            ),
            version=4,
            ways=("re-ranked",),
        ),
        StageSpec(
            "fuse",
            makes="run",
            inputs={
                "fused": Other("fuse.runs", several=True),
                "fused_dev": Other(
                    "fuse.runs", topics="dataset.dev", several=True, twins="fuse.dev_runs", when=is_tuned
                ),
            },
            settings=(
                _TEST_QUERIES,
                *_settings("dataset.dev", when=is_tuned),
                Setting("fuse", without=("runs", "dev_runs")),
            ),
            version=4,
            ways=("fused",),
        ),
        StageSpec(
            "evaluate",
            makes="measures",
            inputs={"run": Own("run")},
            settings=_settings("dataset.test", "evaluation.measures"),
            skipped=_no_judgements,
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
        StageSpec("tune", inputs={"experiment": This()}),
        StageSpec("export", inputs={"encoding": Own("encoding"), "checkpoint": Own("checkpoint")}),
        StageSpec("push", inputs={"checkpoint": Own("checkpoint"), "measures": Own("measures", if_there=True)}),
        StageSpec("report", inputs={"rows": Rows()}),
        StageSpec("check", inputs={"rows": Rows(), "experiment": This()}),
        StageSpec("verify"),
        StageSpec("status"),
        StageSpec("why"),
        StageSpec("show"),
        StageSpec("clean"),
    )
}

#: The kinds of artifacts, each after those that it is made from.
KINDS: tuple[str, ...] = tuple(dict.fromkeys(stage.makes for stage in STAGES.values() if stage.makes is not None))


def maker(values: Values, kind: str) -> StageSpec:
    """The stage that makes a kind of artifact in an experiment."""
    way = way_of(values)
    return next(stage for stage in STAGES.values() if stage.makes == kind and (way in stage.ways or kind != "run"))
