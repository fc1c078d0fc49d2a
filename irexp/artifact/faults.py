"""The faults of a plan: what is wrong with an experiment beyond its configuration alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from irexp.artifact.experiment import Experiment, key_of
from irexp.artifact.given import nearest_names
from irexp.artifact.identity import Given
from irexp.artifact.ignored import excluded_in_vain, run_depth, warn_of_ignored
from irexp.artifact.plan import Plan, Step
from irexp.artifact.scoring import other_scoring
from irexp.artifact.spec import Other, StageSpec
from irexp.artifact.stages import STAGES
from irexp.artifact.values import (
    MINING,
    Values,
    is_given,
    is_taught,
    is_trained,
    is_tuned,
    select,
    ships_candidates,
)
from irexp.config.check import ConfigError, near
from irexp.config.target import constant
from irexp.types import Representation, engine_fault

log = logging.getLogger(__name__)


def refuse(plan: Plan, stages: Sequence[str], faults: Sequence[str]) -> None:
    """Refuse a plan that has faults; if it has none, warn about settings that are ignored.

    Args:
        plan: the plan, as complete as it could be built.
        stages: the requested stages.
        faults: why the rest could not be built.

    Raises:
        ConfigError: naming every fault.
    """
    found = [*_stage_faults(stages, plan.experiment.values), *faults]
    own: set[str] = set()
    for step in sorted(plan.steps, key=lambda step: step.experiment is not plan.experiment):
        if isinstance(step.artifact, Given):
            found += _absent(step.artifact, step.experiment)
        elif step.stage is not None:
            wrong = [*_faults_of(step.stage, step.experiment.values), *_depth_faults(step), *_family_faults(step)]
            if step.experiment is plan.experiment:
                own.update(wrong)
                found += wrong
            else:  # what a baseline or a row takes over from the experiment is said once
                found += [f"{step.reason}: {fault}" for fault in wrong if fault not in own]
    found += [f"{text}; set search=default" for key, text in excluded_in_vain(plan) if key == "exclude_path"]
    if not found and not plan.own:
        reasons = "; ".join(f"stage={name}: {reason}" for name, reason in plan.skipped.items())
        found.append(f"there is nothing to make: {reasons or 'no stage was requested'}{_further(plan)}")
    if found:
        raise ConfigError(found)
    warn_of_ignored(plan)


def _depth_faults(step: Step) -> Iterator[str]:
    """Depths of runs that are read further down than they go."""
    assert step.stage is not None
    for name, run in step.before:
        source = step.stage.inputs[name]
        if isinstance(source, Other) and source.kind == "run" and step.stage.name != "fuse":
            key = f"{source.setting.partition('.')[0]}.depth"
            wanted, held = select(step.experiment.values, key), run_depth(run)
            if wanted is not None and held is not None and wanted > held[1]:
                yield (
                    f"{key}={wanted}: the run of {source.setting} holds {held[1]} documents per query; add "
                    f"{held[0]}={wanted} to {source.setting}, or lower {key}"
                )


def _family_faults(step: Step) -> Iterator[str]:
    """Given checkpoints that score in another way than the typed model, whose name their results would bear."""
    if not any(key_of(override) == "model" for override in step.experiment.overrides):
        return
    for given in [before.artifact for _, before in step.before if isinstance(before.artifact, Given)]:
        folder = given.path if given.kind == "checkpoint" else None
        if folder is not None and (differing := other_scoring(folder, step.experiment.values)):
            yield f"{given.typed}={given.name}: {differing}"


def _further(plan: Plan) -> str:
    """How to train a given checkpoint further, if that was meant."""
    values = plan.experiment.values
    if "fit" not in plan.skipped or not is_given(values, "checkpoint"):
        return ""
    return (
        f"; to train it further set artifact.initial={values['artifact']['checkpoint']} in place of artifact.checkpoint"
    )


def _absent(given: Given, experiment: Experiment) -> Iterator[str]:
    """The fault of a given artifact that was not found, with the paths that were searched."""
    if given.is_missing:
        value = given.name  # as written: an error goes into the log, too
        looked = dict.fromkeys([str(experiment.root / value), str(Path(value).expanduser().absolute())])
        near = nearest_names(value, experiment.root)
        yield f"{given.typed}={given.name}: there is nothing at {' nor at '.join(looked)}{near}"


def _stage_faults(stages: Sequence[str], values: Values) -> Iterator[str]:
    """What is wrong with the requested stages."""
    for name in stages:
        if name not in STAGES:
            yield f"stage={name}: irexp/artifact/stages.py does not list it, so nothing would run{near(name, STAGES)}"
    for name in values["force"]:
        if name not in stages:
            yield f"force={name}: this command does not run stage={name}; add it to stage"
    initial = values["artifact"]["initial"]
    if initial is not None and (reason := STAGES["fit"].skip_reason(values)) is not None:
        yield f"artifact.initial={initial}: training starts from it, and there is no training: {reason}"
    is_fused, is_re_ranked = values["fuse"]["runs"] is not None, values["re_rank"]["candidates"] is not None
    if is_fused and is_re_ranked:
        yield "fuse.runs and re_rank.candidates are both set, and a run is either fused or re-ranked; set one to null"
    if not is_fused and not is_re_ranked and "search" not in stages:
        if "re_rank" in stages:
            yield (
                "stage=re_rank needs a run to re-rank: re_rank=bm25, re_rank.candidates=<a run file or identifier>, or "
                "an experiment's overrides, such as 're_rank.candidates=[\"model=splade\"]'"
            )
        if "fuse" in stages:
            yield (
                'stage=fuse needs runs to fuse: fuse=bm25_and_sbert, or \'fuse.runs=[["model=bm25"],["model=splade"]]\''
            )


def _faults_of(stage: StageSpec, values: Values) -> Iterator[str]:
    """Why a stage cannot run in an experiment."""
    if stage.name == "fit" and is_trained(values):
        yield from _fit_faults(values)
    elif stage.name == "fit":
        if (epochs := values["training"]["epochs"]) is not None:
            yield f"training.epochs={epochs}: nothing is trained, since training.steps=0; set one of them to null"
    elif stage.name == "re_rank":
        if values["re_rank"]["depth"] is None:
            yield "re_rank.depth is not set: give the number of documents to score per query"
        if ships_candidates(values) and "_target_" not in values["re_rank"]["candidates"]:
            yield "re_rank.candidates names no component: it needs _target_, as in conf/re_rank/scoreddocs.yaml"
    elif stage.name in ("encode", "index", "search"):
        yield from _engine_faults(values)
    elif stage.name == "fuse":
        yield from _fuse_faults(values)
    elif stage.name == "score" and values["score"]["candidates"] is not None and values["score"]["depth"] is None:
        yield "score.depth is not set: give the number of documents to score per query"


def _fit_faults(values: Values) -> Iterator[str]:
    if values["dataset"]["train"] is None:
        yield (
            "there is no dataset.train to learn from; set it, take a trained model with artifact.checkpoint=<folder or "
            "hub name>, or skip fine-tuning with training=none"
        )
    if values["training"]["validate_every"] is not None and not (values["dataset"]["dev"] or values["validation"]):
        yield (
            "training.validate_every is set, but there is no dataset.dev to validate on; set dataset.dev, or set "
            "training.validate_every=null, which keeps the last weights"
        )
    if values["training"]["validate_every"] is None:
        if values["training"]["patience"] is not None:
            yield "training.patience counts validations, and there are none; set training.validate_every"
        if values["validation"]:
            yield "validation names sets to validate on, and training.validate_every=null never does; set one of them"
    yield from _schedule_faults(values)
    if values["loss"] is None:
        yield "there is no loss to minimise; choose one, or skip fine-tuning with training=none"
    yield from _target_faults(values)
    yield from _own_negatives_faults(values)
    negatives = values["negatives"]
    if negatives["candidates"] is not None and negatives["depth"] is None:
        yield "negatives.depth is not set: give the number of documents per ranking that negatives are drawn from"
    if negatives["candidates"] is None and negatives["depth"] is not None:
        yield f"negatives.depth={negatives['depth']}: there is no run; set negatives.candidates=[model=bm25]"
    if negatives["count"] is None and negatives["sampler"] in ("top", "log_random", "top_and_random"):
        yield (
            f"negatives.sampler={negatives['sampler']} draws negatives.count documents, which is not set, so that all "
            f"are taken; set that number"
        )
    yield from _mining_faults(negatives)


def _schedule_faults(values: Values) -> Iterator[str]:
    """Numbers with which a training learns nothing, or ends before it has begun."""
    steps, epochs = values["training"]["steps"], values["training"]["epochs"]
    if (steps is None) == (epochs is None):
        yield f"training.steps={steps} and training.epochs={epochs}: set one of them, and the other to null"
    for name, key in (("schedule", "warmup"), ("regularizer", "ramp")):
        number = values[name].get(key) if isinstance(values[name], Mapping) else None
        if steps and isinstance(number, int | float) and number > 1 and number >= steps:
            yield f"{name}.{key}={number} steps are not over when training.steps={steps} are; set fewer, or a fraction"
    if values["training"]["learning_rate"] == 0 and not values["training"]["head_learning_rate"]:
        yield "training.learning_rate=0 trains nothing; set it above 0, or training=none"


def _mining_faults(negatives: Mapping[str, Any]) -> Iterator[str]:
    """Filters of negatives that contradict each other, or have nothing to choose from."""
    chosen = [f"negatives.{key}" for key in MINING if negatives[key] is not None]
    if chosen and negatives["candidates"] is None:
        yield f"{', '.join(chosen)}: there is no run to mine from; set negatives.candidates=[model=bm25]"
    if negatives["depth"] is not None and (negatives["skip"] or 0) >= negatives["depth"]:
        yield f"negatives.skip={negatives['skip']} leaves no rank of negatives.depth={negatives['depth']}; skip fewer"
    lowest, highest = negatives["min_score"], negatives["max_score"]
    if lowest is not None and highest is not None and lowest > highest:
        yield f"negatives.min_score={lowest} is above negatives.max_score={highest}; no score is between them"
    if negatives["keep_by"] == "random" and negatives["keep"] is None:
        yield "negatives.keep_by=random draws negatives.keep of them, which is not set: give that number"


def _target_faults(values: Values) -> Iterator[str]:
    """A loss that learns a teacher's scores where there are none, as far as the classes declare it."""
    train = str((values["dataset"]["train"] or {}).get("_target_", ""))
    losses = [str(node.get("_target_", "")) for node in _losses(values["loss"] or {})]
    loss = next((loss for loss in losses if loss and constant(loss, "needs_scores")), None)
    if loss is None or not train or is_taught(values):
        return
    name = loss.rpartition(".")[2]
    if constant(train, "has_scores") is False:
        yield (
            f"loss: {name} learns a teacher's scores, and dataset.train, {train.rpartition('.')[2]}, has only "
            f"relevance; set teacher=mono, dataset=triples with a file of scores, or loss=info_nce, lce or rank_net"
        )
    elif values["negatives"]["candidates"] is not None:
        yield (
            f"loss: {name} learns a teacher's scores, which negatives from a run lack; set negatives=none, or "
            f"a teacher: teacher=mono"
        )


def _own_negatives_faults(values: Values) -> Iterator[str]:
    """What needs an example's own negatives where there are none, as far as the classes declare it."""
    train = str((values["dataset"]["train"] or {}).get("_target_", ""))
    negatives, training = values["negatives"], values["training"]
    if not train or constant(train, "has_negatives") is not False or negatives["candidates"] is not None:
        return
    losses = [node for node in _losses(values["loss"] or {}) if "_target_" in node]
    needs_own = [node for node in losses if _is_in_batch(node) is False and not _constant(node, "compares_viewers")]
    if needs_own:
        yield (
            f"loss: {_name(needs_own[0])} compares a query's own documents, and no training example has a negative of "
            f"its own; set negatives=bm25, dataset=triples with a file of negatives, or a loss of in-batch negatives "
            f"alone, such as loss=info_nce"
        )
    size = training["batch_size"] // max(training["accumulate_batches"], 1)
    if size == 1 and any(_is_in_batch(node) for node in losses):
        divided = f" / training.accumulate_batches={training['accumulate_batches']}" * (training["batch_size"] > 1)
        yield (
            f"training.batch_size={training['batch_size']}{divided}: a batch of one example has no in-batch negatives, "
            f"and no training example has a negative of its own; set a larger batch, or negatives=bm25"
        )


def _is_in_batch(loss: Mapping[str, Any]) -> bool | None:
    """Whether a loss compares a query with the documents of others; None if neither setting nor class tells."""
    found: bool | None = loss["in_batch"] if "in_batch" in loss else _constant(loss, "in_batch")
    return found


def _constant(node: Mapping[str, Any], name: str) -> Any:
    return constant(str(node["_target_"]), name)


def _name(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]


def _losses(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The losses that a sum adds up, or the one loss."""
    return list(node["losses"].values()) if "losses" in node else [node]


def _engine_faults(values: Values) -> Iterator[str]:
    """A mismatch of the engine's input and the model's output, as far as their classes declare them."""
    model = str(values["model"].get("_target_", ""))
    if model and is_given(values, "checkpoint"):
        return
    made: Representation | None = constant(model, "representation") if model else "text"
    engine: Any = values["index"]
    while isinstance(engine, Mapping):
        target = str(engine["_target_"])
        takes: Representation | None = constant(target, "takes")
        if takes is not None and made is not None and (fault := engine_fault(target.rpartition(".")[2], takes, made)):
            yield f"index: {fault}"
        matching = made == "tokens" and bool(constant(model, "matches_tokens"))
        if takes == made == "tokens" and matching != bool(constant(target, "matches_tokens")):
            others = "only those of the same token" if matching else "those of all tokens"
            yield (
                f"index: {target.rpartition('.')[2]} does not compare a vector with {others}, as the model does; use "
                f"index={'coil' if matching else 'maxsim'}"
            )
        engine = engine.get("engine") if takes is None else None  # an engine over other engines takes what they take


def _fuse_faults(values: Values) -> Iterator[str]:
    fuse = values["fuse"]
    runs, weights = fuse["runs"], fuse["weights"]
    if len(runs) < 2:
        yield f"fuse.runs={runs}: a fusion needs at least two runs"
    if weights is not None and len(weights) != len(runs):
        yield f"fuse.weights has {len(weights)} weights for {len(runs)} runs"
    if unused := [key for key in ("weights", "dev_runs") if fuse[key] is not None and fuse["method"] != "wsum"]:
        yield f"fuse.{unused[0]} is used by fuse.method=wsum alone, and it is {fuse['method']}; set one or the other"
    if not is_tuned(values):
        return
    steps = 1 / fuse["step"] if fuse["step"] > 0 else 0.0
    if not steps or abs(steps - round(steps)) > 1e-6:
        yield f"fuse.step={fuse['step']}: 1 must be a multiple of it, as it is of 0.1 and 0.25"
    if values["dataset"]["dev"] is None:
        yield "fuse.weights cannot be tuned: the dataset has no development queries; set fuse.weights"
    twins = [None] * len(runs) if fuse["dev_runs"] is None else fuse["dev_runs"]
    if len(twins) != len(runs):
        yield f"fuse.dev_runs has {len(twins)} entries for {len(runs)} runs"
    if any(isinstance(entry, str) and twin is None for entry, twin in zip(runs, twins, strict=False)):
        yield (
            "fuse.weights cannot be tuned for a run file without its run on the development queries; name that in "
            "fuse.dev_runs, or set fuse.weights"
        )
