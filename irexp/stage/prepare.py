"""The stage that fetches what an experiment reads from a network, so that its other stages run without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from irexp.artifact.experiment import Experiment, composed
from irexp.artifact.plan import Step, make_plan
from irexp.artifact.resource import Resource
from irexp.stage.files import require_files
from irexp.stage.packages import require_packages
from irexp.stage.resources import resources_of
from irexp.stage.status import size
from irexp.types import UserError

log = logging.getLogger(__name__)

#: A line of the list: the state of something, its bytes on this machine, its name, and why it is not here.
Line = tuple[str, str, str]


def prepare(output: Path, experiment: Experiment, *, dry_run: bool) -> list[Line]:
    """Fetch all that the whole pipeline of an experiment reads, its baselines and other experiments included.

    Nothing is made of it: no artifact, no vector.

    Args:
        output: the job's output folder; nothing is written there.
        experiment: the experiment.
        dry_run: whether to only list what would be fetched.

    Returns:
        The list that was logged: state, bytes, and name.

    Raises:
        UserError: after the list, if something is not on this machine; not in a dry run.
    """
    own = [override for override in experiment.overrides if not override.startswith(("stage=", "stage."))]
    whole = composed((*own, "stage=all"))
    steps = [step for step in make_plan(whole, whole.stages).steps if step.stage is not None or step.artifact]
    lines = [_line(resource, dry_run=dry_run) for resource in resources_of(steps)]
    lines += _faults([step for step in steps if step.stage is not None])
    word = "would fetch (dry run)" if dry_run else "what this experiment reads"
    log.info("prepare: %s\n\n%s\n", word, _table(lines) if lines else "nothing from a network")
    lacking = [name for state, _, name in lines if state == "missing"]
    if lacking and not dry_run:
        raise UserError(f"prepare: {len(lacking)} of {len(lines)} are not on this machine; the list above says why")
    return lines


def _line(resource: Resource, *, dry_run: bool) -> Line:
    """The line of a resource, after fetching it if it is not here."""
    if resource.is_here():
        return "there", _bytes(resource), resource.name
    if dry_run:
        return "to fetch", "", resource.name
    log.info("prepare: fetching %s", resource.name)
    try:
        resource.fetch()
    except UserError as error:
        return "missing", "", f"{resource.name}: {' '.join(str(error).split())}"
    return "fetched", _bytes(resource), resource.name


def _bytes(resource: Resource) -> str:
    count = resource.bytes_here()
    return "" if count is None else size(count)


def _faults(steps: Sequence[Step]) -> Iterator[Line]:
    """What no network brings: files and packages that the steps need and that are not on this machine."""
    checks: tuple[Callable[[list[Step]], None], ...] = (require_files, require_packages)
    faults = dict.fromkeys(fault for step in steps for check in checks for fault in _refusal(check, step))
    yield from (("missing", "", fault) for fault in faults)


def _refusal(check: Callable[[list[Step]], None], step: Step) -> Iterator[str]:
    try:
        check([step])
    except UserError as error:
        yield from getattr(error, "faults", [str(error)])


def _table(lines: Sequence[Line]) -> str:
    """The lines, aligned."""
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    return "\n".join(f"{state:{widths[0]}}  {count:>{widths[1]}}  {name}" for state, count, name in lines)
