"""The stage that shows how an artifact was made, and the command that makes it again."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from irexp.artifact.experiment import Experiment, composed, search_path
from irexp.artifact.lineage import Lineage, differences, flatten
from irexp.artifact.plan import Step, draft_plan
from irexp.artifact.stages import STAGES, way_of
from irexp.artifact.store import Store
from irexp.config.installation import program
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Overrides that say what to run and where; they do not change an artifact.
_NOT_CONTENT = ("stage=", "stage.", "force=", "dry_run=", "confirm=", "hydra.", "hydra/", "baselines=")


def show(output: Path, *, artifacts: str, of: str) -> str:
    """Show the lineage of an artifact, with seconds and commits, and the command that makes it again.

    Args:
        output: the job's folder; nothing is written there.
        artifacts: the folder of all artifacts.
        of: the artifact, by its identifier, path or digest.

    Returns:
        The command.
    """
    lineage = Lineage(Store(Path(artifacts)))
    name = lineage.find(of)
    command, remark = _command(lineage, name)
    lines = _tree(lineage, name)
    log.info("show: %s\n\n%s\n\nto make it again%s:\n\n    %s\n", name, "\n".join(lines), remark, command)
    return command


def _tree(lineage: Lineage, name: str, label: str = "", depth: int = 0) -> list[str]:
    """The lines of an artifact: its measures and settings, then its inputs, indented."""
    manifest = lineage.manifests[name]
    provenance = manifest["provenance"]
    indent = "    " * depth
    commit = (provenance.get("git") or {}).get("commit", "an unknown commit")[:10]
    dirty = ", changed since" if (provenance.get("git") or {}).get("dirty") else ""
    when = f"{provenance.get('finished', '')}, {provenance.get('seconds', 0):,.1f} s, at {commit}{dirty}"
    lines = [f"{indent}{label}{name}  ({when})"]
    measures = provenance.get("measures") or {}
    lines += [f"{indent}    measured {key} = {value:.4f}" for key, value in measures.items()]
    settings = {key: value for key, value in manifest["made_from"].items() if not key.startswith("artifact.")}
    lines += [f"{indent}    {key} = {value}" for key, value in flatten(settings).items()]
    for source, before, entry in lineage.inputs(name):
        if before is not None:
            lines += _tree(lineage, before, f"{source}: ", depth + 1)
        else:
            lines.append(f"{indent}    {source}: {entry}, which is not in this store")
    return lines


def _command(lineage: Lineage, name: str) -> tuple[str, str]:
    """The command that makes an artifact, and whether it leads to the same one today."""
    manifest = lineage.manifests[name]
    recorded = manifest["provenance"]["overrides"]
    typed = search_path(recorded) + [o for o in recorded if not o.startswith(_NOT_CONTENT)]
    experiment = composed(typed)
    stage = _maker(experiment, manifest["kind"])
    plan, faults = draft_plan(experiment, [stage])
    if faults:
        raise UserError(f"{name} cannot be made again: {'; '.join(faults)}")
    (step,) = plan.own
    command = shlex.join([*program().split(), *typed, f"stage=[{','.join(_stages(step))}]"])
    if step.name[-8:] == name[-8:]:
        return command, " (it leads to the same artifact)"
    assert step.artifact is not None
    changed = differences(flatten(step.artifact.lineage), lineage.all_settings(name))
    lines = "\n".join(f"    {line}" for line in changed)
    return command, f" (today it leads to {step.name}, which differs in\n{lines}\n)"


def _maker(experiment: Experiment, kind: str) -> str:
    way = way_of(experiment.values)
    return next(stage.name for stage in STAGES.values() if stage.makes == kind and way in stage.ways)


def _stages(step: Step) -> list[str]:
    """The stages that make a step from scratch, in order; other experiments' runs are made automatically."""
    names: list[str] = []
    for _, before in step.before:
        if before.experiment is step.experiment and before.stage is not None:
            names += [name for name in _stages(before) if name not in names]
    assert step.stage is not None
    return [*names, step.stage.name]
