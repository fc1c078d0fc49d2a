"""The stage that shows how an artifact was made, and the command that makes it again."""

from __future__ import annotations

import logging
import shlex
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irexp.artifact.experiment import Experiment, composed, search_path
from irexp.artifact.lineage import Lineage, differences, flatten
from irexp.artifact.plan import Step, draft_plan
from irexp.artifact.spec import Own
from irexp.artifact.stages import STAGES, maker
from irexp.artifact.store import Store
from irexp.artifact.values import way_of
from irexp.config.installation import program
from irexp.types import UserError

log = logging.getLogger(__name__)

#: Overrides that say what to run and log, and where; they do not change an artifact.
_NOT_CONTENT = (
    *("objective=", "stage=", "stage.", "force=", "dry_run=", "confirm=", "hydra.", "hydra/", "logger=", "logger."),
)

#: Overrides that say which other experiments are in the same table.
_TABLE = ("baselines=", "rows=", "columns=", "against=", "mean=")


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


def content_overrides(manifest: Mapping[str, Any]) -> list[str]:
    """The recorded overrides of an artifact without those that do not change it."""
    recorded: list[str] = manifest["provenance"]["overrides"]
    return search_path(recorded) + [o for o in recorded if not o.startswith((*_NOT_CONTENT, *_TABLE))]


def config_flags(manifest: Mapping[str, Any]) -> list[str]:
    """The flags of the recorded command that add folders of options, or replace conf/; `show` composes with its own."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for short, long in (("-cp", "--config-path"), ("-cd", "--config-dir"), ("-cn", "--config-name")):
        parser.add_argument(long, short)
    program_name, *arguments = manifest["provenance"].get("command") or [""]
    if Path(program_name).stem not in ("run", "irexp", "__main__"):  # a notebook, whose arguments mean something else
        return []
    found, _ = parser.parse_known_args(arguments)
    return [f"--{name.replace('_', '-')}={value}" for name, value in vars(found).items() if value is not None]


def recorded_command(lineage: Lineage, name: str) -> str:
    """The command that made an artifact from scratch, from what was recorded; `show` also says where it leads today."""
    stages = f"stage=[{','.join(_recorded_stages(lineage, name))}]"
    manifest = lineage.manifests[name]
    return shlex.join([*program().split(), *config_flags(manifest), *content_overrides(manifest), stages])


def _recorded_stages(lineage: Lineage, name: str, given: Sequence[str] | None = None) -> list[str]:
    """The stages of the same experiment that made an artifact, in order, without what was given."""
    manifest = lineage.manifests[name]
    given = manifest["provenance"].get("given", []) if given is None else given
    stage = maker(manifest["provenance"]["configuration"], name.partition("/")[0])
    names: list[str] = []
    for source, before, _ in lineage.inputs(name):
        if before is not None and isinstance(stage.inputs[source], Own) and before.partition("/")[0] not in given:
            names += [one for one in _recorded_stages(lineage, before, given) if one not in names]
    return [*names, stage.name]


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
    typed = content_overrides(manifest)
    flags = config_flags(manifest)
    try:
        experiment = composed(typed)
    except UserError as error:
        hint = f" (it was made with {' '.join(flags)}: give them to this command, too)" if flags else ""
        raise UserError(f"{error}{hint}") from error
    stage = _maker(experiment, manifest["kind"])
    plan, faults = draft_plan(experiment, [stage])
    if faults:
        raise UserError(f"{name} cannot be made again: {'; '.join(faults)}")
    (step,) = plan.own
    command = shlex.join([*program().split(), *flags, *typed, f"stage=[{','.join(_stages(step))}]"])
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
