"""The only list of stages: what each makes, from what, and when it is skipped.

An artifact's name ends in a digest of exactly the settings and inputs that are listed here; a setting that is not
listed (paths, logger, most of machine) changes no name. A stage that is not in `STAGES` does not exist, even if
conf/stage has a file for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from irexp.artifact.spec import Other, Own, Rows, Setting, Source, StageSpec, This, always
from irexp.artifact.values import (
    MINING,
    Values,
    draws_from_run,
    is_taught,
    is_trained,
    is_tuned,
    mines,
    names_candidates,
    select,
    ships_candidates,
    way_of,
)


def stage_of(name: str) -> StageSpec:
    """The stage of a name."""
    return STAGES[name]


def _settings(*paths: str, when: Callable[[Values], bool] = always) -> tuple[Setting, ...]:
    return tuple(Setting(path, when=when) for path in paths)


def _no_judgements(values: Values) -> str | None:
    test = values["dataset"]["test"]
    if test is None:
        return "the dataset has no test queries"
    is_unjudged = "qrels_path" in test and test["qrels_path"] is None
    return "dataset.test.qrels_path=null: there are no judgements" if is_unjudged else None


def _no_examples(values: Values) -> str | None:
    return "the dataset has no training examples" if values["dataset"]["train"] is None else None


def _nothing_mined(values: Values) -> str | None:
    if mines(values):
        return None
    if select(values, "negatives.candidates") is None:
        return "negatives.candidates=null: there is no run to mine from"
    if not is_trained(values) or values["dataset"]["train"] is None:
        return "nothing is trained"
    return f"without a filter (negatives.{', '.join(MINING)}) training draws from the run itself"


def _is_random(values: Values) -> bool:
    return bool(select(values, "negatives.keep_by") == "random")


def _is_lowered(setting: str, values: Values) -> bool:
    """Whether a precision is below float32, the only one that scores had in earlier versions."""
    return select(values, setting) not in (None, "float32")


def _tries_all_weights(values: Values) -> bool:
    """Whether three or more weights are tuned, of which earlier versions left out some, such as 0.7, 0.2 and 0.1."""
    return is_tuned(values) and len(values["fuse"]["runs"]) > 2


def _has_training_grade(values: Values) -> bool:
    """Whether the smallest relevant grade of training queries is above 1, which earlier versions did not use."""
    return _has_grade(select(values, "dataset.train"))


def _trains_by_grade(values: Values) -> bool:
    return is_trained(values) and _has_training_grade(values)


def _has_grade(value: Any) -> bool:
    """Whether a key `relevance` at any depth, as in the sets of a mixture, is above 1."""
    if not isinstance(value, dict):
        return False
    grade = value.get("relevance")
    return (isinstance(grade, int) and grade > 1) or any(map(_has_grade, value.values()))


def _ignored_by_method(values: Values) -> dict[str, Any]:
    """The settings of a fusion that its method does not use, with their defaults, which are in all earlier names."""
    is_by_rank = select(values, "fuse.method") == "rrf"
    ignored: dict[str, Any] = {"norm": "min-max"} if is_by_rank else {"k": 60}
    return ignored if is_tuned(values) else ignored | {"measure": "nDCG@10", "step": 0.1}


_TRAINING = (
    *("loss", "regularizer", "adapter", "dataset.documents", "dataset.train", "dataset.dev"),
    *("training", "optimizer", "schedule", "validation"),
)

#: In the order of the function's parameters.
_OF_FIT: dict[str, Source] = {
    "negatives": Other(
        "negatives.candidates",
        topics="dataset.train.topics",
        hint="set negatives=none to train with the negatives that its examples name",
        when=draws_from_run,
    ),
    "initial": Other("artifact.initial", kind="checkpoint", trains=True),
    "guide": Other("false_negatives.guide", kind="checkpoint", trains=True),
    "examples": Own("examples", is_made=True, when=mines),
    "scores": Other("teacher.scores", kind="scores", trains=True, when=is_taught),
}

#: The keys about measuring enter the identity of the measures, not that of the run.
_TEST_QUERIES = Setting("dataset.test", without=("relevance", "remove_query"))

#: Keys of a re-ranking and of scores with entries of their own: only a precision below float32 enters.
_ELSEWHERE = ("candidates", "precision")

STAGES: dict[str, StageSpec] = {
    stage.name: stage
    for stage in (
        StageSpec(
            "fit",
            makes="checkpoint",
            inputs=_OF_FIT,
            settings=(
                *_settings("seed", "model"),
                *_settings(*_TRAINING, when=is_trained),
                Setting("negatives", without=("candidates", "keep_by", *MINING), when=is_trained),
                Setting("false_negatives", without=("guide",), when=is_trained),
            ),
            version=3,
            is_raised=_trains_by_grade,
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
            divides=True,
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
            resumes=True,
            divides=True,
            ways=("searched",),
        ),
        StageSpec(
            "re_rank",
            makes="run",
            inputs={"candidates": Other("re_rank.candidates", when=names_candidates), "checkpoint": Own("checkpoint")},
            settings=(
                *(*_settings("model", "dataset.documents"), _TEST_QUERIES),
                *(Setting("re_rank", _ELSEWHERE), Setting("re_rank.candidates", when=ships_candidates)),
                Setting("re_rank.precision", when=partial(_is_lowered, "re_rank.precision")),
            ),
            version=4,
            resumes=True,
            divides=True,
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
                Setting("fuse", without=("runs", "dev_runs"), ignored=_ignored_by_method),
            ),
            version=5,
            is_raised=_tries_all_weights,
            ways=("fused",),
        ),
        StageSpec(
            "score",
            makes="scores",
            inputs={
                "checkpoint": Own("checkpoint"),
                "candidates": Other(
                    "score.candidates",
                    topics="dataset.train.topics",
                    hint="set score=none to score only the documents that its examples name",
                    several=True,
                    is_alone=True,
                ),
            },
            settings=(
                *(*_settings("model", "dataset.documents", "dataset.train"), Setting("score", _ELSEWHERE)),
                Setting("score.precision", when=partial(_is_lowered, "score.precision")),
            ),
            is_raised=_has_training_grade,
            resumes=True,
            divides=True,
            ways=("searched", "re-ranked"),
            extra_skip_reason=_no_examples,
        ),
        StageSpec(
            "mine",
            makes="examples",
            inputs={
                "candidates": Other(
                    "negatives.candidates",
                    topics="dataset.train.topics",
                    hint="set negatives=none to train with the negatives that its examples name",
                    several=True,
                    is_alone=True,
                ),
                "scores": Other("negatives.scores", kind="scores", trains=True),
            },
            settings=(
                Setting("seed", when=_is_random),
                Setting("dataset.train"),
                Setting("negatives", without=("candidates", "scores", "count")),
            ),
            is_raised=_has_training_grade,
            ways=("searched", "re-ranked"),
            extra_skip_reason=_nothing_mined,
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
            settings=_settings("machine.accelerator", "machine.threads", "processor", "gpu"),
            version=2,
            ways=("searched",),
            unless_given=("run",),
        ),
        StageSpec("prepare", inputs={"experiment": This()}, previews=True),
        *(StageSpec(name, inputs={"experiment": This()}) for name in ("tune", "peers", "growth")),
        StageSpec("export", inputs={"encoding": Own("encoding"), "checkpoint": Own("checkpoint")}),
        StageSpec("push", inputs={"checkpoint": Own("checkpoint"), "measures": Own("measures", if_exists=True)}),
        StageSpec("report", inputs={"rows": Rows()}),
        StageSpec("check", inputs={"rows": Rows(), "experiment": This()}),
        *(StageSpec(name, inputs=_OF_FIT, ways=("searched", "re-ranked")) for name in ("overfit", "find_lr")),
        *(StageSpec(name) for name in ("verify", "status", "why", "show", "clean")),
    )
}

#: The kinds of artifacts, each after the kinds that it is made from.
KINDS: tuple[str, ...] = tuple(dict.fromkeys(stage.makes for stage in STAGES.values() if stage.makes is not None))


def maker(values: Values, kind: str) -> StageSpec:
    """The stage that makes a kind of artifact in an experiment."""
    way = way_of(values)
    return next(stage for stage in STAGES.values() if stage.makes == kind and (way in stage.ways or kind != "run"))
