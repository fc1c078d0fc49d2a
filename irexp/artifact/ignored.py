"""What is typed and has no effect on a plan, or another one than it seems: said as warnings before anything is made."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Given
from irexp.artifact.manifest import MANIFEST, read_manifest
from irexp.artifact.plan import Plan, Step
from irexp.artifact.spec import Other
from irexp.artifact.stages import STAGES
from irexp.artifact.values import select

log = logging.getLogger(__name__)

#: Files by which a checkpoint describes its own model.
_SELF_DESCRIBING = ("irexp.json", "modules.json", "artifact.metadata")

#: The groups that say how a model is made or searched with; the runs of a fusion do not inherit them.
_NOT_OF_FUSION = {
    *("adapter", "backbone", "false_negatives", "index", "loss", "negatives", "optimizer", "regularizer", "schedule"),
    *("score", "teacher", "training", "validation"),
}

#: The groups that only some experiments use.
_OF_SOME = {
    *("adapter", "false_negatives", "fuse", "loss", "negatives", "optimizer", "re_rank", "regularizer", "schedule"),
    *("score", "teacher", "training", "validation"),
}


def warn_of_ignored(plan: Plan) -> None:
    """Log a warning of each typed setting that is ignored, and of measures beyond the depth of their run."""
    for step in plan.steps:
        if isinstance(step.artifact, Given) and (settings := _unused_settings(step.artifact, step.experiment)):
            log.warning("%s: ignored, since the checkpoint %s decides it", ", ".join(settings), step.artifact.name)
    for text in dict.fromkeys(_not_inherited(plan)):
        log.warning("%s", text)
    for text in _other_encoders(plan):
        log.warning("%s", text)
    for key, text in excluded_in_vain(plan):
        if key == "remove_query":  # which options of search for whole benchmarks set
            log.warning("%s; dataset.test.remove_query=true leaves the query's own out of the measures", text)
    for text in dict.fromkeys(text for step in plan.steps for text in _measures_beyond(step)):
        log.warning("%s", text)
    for override in _not_of_fusion(plan):
        log.warning(
            "%s: ignored, since the runs that are fused have settings of their own; write it into each experiment of "
            "fuse.runs",
            override,
        )
    if unused := _of_no_stage(plan):
        log.warning("%s: ignored, since no stage of this experiment uses it", ", ".join(unused))
    for override in _replaced(plan):
        group = override.lstrip("+~").partition(".")[0]
        log.warning("%s: ignored, since the table's rows or columns choose %s=…; write it into these", override, group)


def run_depth(run: Step) -> tuple[str, int] | None:
    """The setting that says how many documents per query a run holds, and that number; None for a given run."""
    key = {"search": "search.depth", "re_rank": "re_rank.depth", "fuse": "fuse.depth"}.get(
        run.stage.name if run.stage else ""
    )
    depth = None if key is None else select(run.experiment.values, key)
    return None if key is None or depth is None else (key, depth)


def excluded_in_vain(plan: Plan) -> Iterator[tuple[str, str]]:
    """Keys of search that leave out documents, where every run is given or the collection's; each with a sentence."""
    stages = [step.stage.name for step in plan.own if step.stage is not None]
    if not {"re_rank", "fuse", "evaluate"} & set(stages):
        return
    if any(step.stage is not None and step.stage.name == "search" for step in plan.steps):
        return
    for key in ("remove_query", "exclude_path"):
        if value := plan.experiment.values["search"][key]:
            yield key, f"search.{key}={value}: nothing is searched, and the documents of a given run stay in it"


def _not_inherited(plan: Plan) -> Iterator[str]:
    """Warnings of a typed backbone or training that another experiment's model, such as a teacher, does not have."""
    ignored = _not_of_fusion(plan)  # of which other warnings tell
    typed = [o for o in plan.experiment.overrides if re.match(r"[+~]*(backbone|training)\b", o) and o not in ignored]
    for step in plan.steps:
        if not step.trains or step.experiment is plan.experiment:
            continue
        own = {override.partition("=")[0] for override in step.experiment.overrides}
        if without := [override for override in typed if override.partition("=")[0] not in own]:
            yield (
                f"{', '.join(without)}: not of {step.name} ({step.reason}), whose experiment has settings of its own; "
                f"write it into that experiment, too, if it is meant there"
            )


def _other_encoders(plan: Plan) -> Iterator[str]:
    """Warnings of searches of a given index or encoding whose queries another checkpoint encodes."""
    for step in plan.steps:
        index, checkpoint = step.inputs.get("index"), step.inputs.get("checkpoint")
        if step.stage is None or not isinstance(index, Step) or not isinstance(checkpoint, Step):
            continue
        documents = index if isinstance(index.artifact, Given) else index.inputs.get("encoding")
        if not isinstance(documents, Step) or not isinstance(documents.artifact, Given):
            continue
        lineage = _lineage(documents)
        encoder = lineage.get("artifact.encoding", lineage).get("artifact.checkpoint")
        if encoder is not None and not _may_be_same(encoder, _lineage(checkpoint)):
            yield (
                f"{documents.artifact.typed}={documents.artifact.name} holds vectors of another checkpoint than "
                f"{checkpoint.name}, which encodes the queries: the scores mean nothing, unless both encode documents "
                "alike"
            )


def _lineage(step: Step) -> dict[str, Any]:
    """How an artifact was made; of a given one, as its manifest says."""
    assert step.artifact is not None
    given = step.artifact
    if isinstance(given, Given) and given.path is not None and (given.path / MANIFEST).is_file():
        lineage: dict[str, Any] = read_manifest(given.path)["lineage"]
        return lineage
    return given.lineage


def _may_be_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two lineages of checkpoints may be those of the same; a name alone says nothing."""
    if set(one) == {"name"} or set(other) == {"name"}:
        return True
    without = ("name", "revision")  # one checkpoint may lie in two folders; a revision may have been unknown
    return all(one.get(key) == other.get(key) for key in {*one, *other} - {*without})


def _measures_beyond(step: Step) -> Iterator[str]:
    """Warnings of measures that look further down a run than it goes."""
    run = step.inputs.get("run") if step.stage is not None and step.stage.name == "evaluate" else None
    if not isinstance(run, Step) or (held := run_depth(run)) is None:
        return
    values = step.experiment.values
    without_own = select(values, "dataset.test.remove_query") and not select(
        run.experiment.values, "search.remove_query"
    )
    counted = held[1] - bool(without_own)
    reason = f"holds no more ({held[0]})"
    if without_own:
        reason = f"holds {held[1]} ({held[0]}), and the query's own is left out; set search.remove_query=true"
    for measure in values["evaluation"]["measures"]:
        cut = re.search(r"@(\d+)$", measure)
        if cut is not None and int(cut[1]) > counted:
            yield (
                f"{measure} of {select(values, 'model.name')} counts {counted} documents per query, since the run "
                f"{reason}"
            )


def _replaced(plan: Plan) -> list[str]:
    """The typed values that no step has, since each row or column chooses another option of their group."""
    kept = {override for step in plan.steps for override in step.experiment.overrides}
    own = plan.experiment.overrides if plan.steps else ()
    return [override for override in own if override not in kept and "." in override.partition("=")[0]]


def _not_of_fusion(plan: Plan) -> list[str]:
    """The typed settings of models and trainings, of which a fusion has none."""
    typed = [override for step in plan.steps if _is_fusion(step) for override in step.experiment.overrides]
    return [each for each in dict.fromkeys(typed) if re.match(r"[+~]*(\w+)", each)[1] in _NOT_OF_FUSION]  # type: ignore[index]


def _of_no_stage(plan: Plan) -> list[str]:
    """The typed settings of re-rankings, fusions and scores that no experiment of the plan makes.

    Which stages were asked for does not matter, except for stage=score, which an experiment needs only if it is in the
    plan. The jobs of a sweep have settings in common, of which each uses some.
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return []
    told = _not_of_fusion(plan)
    experiments = {plan.experiment, *(step.experiment for step in plan.steps)}
    used = {group for experiment in experiments for group in _used(experiment)}
    used |= {"score" for step in plan.steps if step.stage is not None and step.stage.name == "score"}
    found = []
    for override in plan.experiment.overrides:
        key, _, value = override.lstrip("+~").partition("=")
        is_off = override.startswith("~") or value in ("none", "null", "default") or override == "training.steps=0"
        if key.partition(".")[0] in _OF_SOME - used and not is_off and override not in told:
            found.append(override)
    return found


def _used(experiment: Experiment) -> Iterator[str]:
    """The groups whose settings the stages of an experiment use, without those of stage=score."""
    for stage in STAGES.values():
        if stage.makes is None or stage.name == "score" or stage.name in experiment.skipped:
            continue
        yield from (each.path.partition(".")[0] for each in stage.settings if each.when(experiment.values))
        others = (source for source in stage.inputs.values() if isinstance(source, Other))
        yield from (each.setting.partition(".")[0] for each in others if each.when(experiment.values))


def _is_fusion(step: Step) -> bool:
    return step.stage is not None and step.stage.name == "fuse"


def _unused_settings(given: Given, experiment: Experiment) -> list[str]:
    """The typed model settings that a given checkpoint overrules, because it describes its own model."""
    if given.kind != "checkpoint" or given.path is None:
        return []
    if not any((given.path / file).is_file() for file in _SELF_DESCRIBING):
        return []  # a bare transformer: the configuration decides the model
    used = ("model.query_length", "model.document_length", "model.name", "model.matryoshka_dims", "model.truncate_dim")
    return [o for o in experiment.overrides if o.startswith(("model.", "backbone")) and not o.startswith(used)]
