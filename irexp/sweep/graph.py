"""The plans of a sweep's jobs, merged: each missing artifact is one task, however many jobs need it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from irexp.artifact.identity import Identity, digest_in
from irexp.artifact.plan import Plan, Step, closure
from irexp.artifact.store import Store
from irexp.stage.execute import checked_steps

log = logging.getLogger(__name__)

#: Stages that are left to the jobs, after the graph: they measure times, which other processes would lengthen.
LEFT_TO_JOBS = ("speed",)


@dataclass(frozen=True, eq=False)
class Task:
    """An artifact to make.

    Attributes:
        key: the folder of the artifacts, the kind and the digest, which are the same in all jobs.
        step: the step of the first job that needs it.
        needs: the keys of the tasks that must be done before.
        is_forced: whether it is made even if it exists.
        environment: the environment variables that the job sets (`hydra.job.env_set`).
        swept: the swept overrides that all jobs that need it have in common.
        share: which of how many shares of the artifact to make, from 0; None to complete it.
    """

    key: str
    step: Step
    needs: frozenset[str]
    is_forced: bool
    environment: Mapping[str, str]
    swept: tuple[str, ...] = ()
    share: tuple[int, int] | None = None

    @property
    def stage(self) -> str:
        """The name of the stage that makes it."""
        assert self.step.stage is not None
        return self.step.stage.name

    @property
    def label(self) -> str:
        """Its stage and name, for the log."""
        name = f"{self.stage} {self.step.name.partition('/')[2]}"
        return f"{name}, share {self.share[0] + 1} of {self.share[1]}" if self.share else name

    @property
    def plan(self) -> Plan:
        """The plan that makes this artifact alone, from inputs that exist."""
        return Plan(
            self.step.experiment,
            steps=tuple(closure(self.step)),
            goals=(self.step,),
            own=(self.step,),
            makes=frozenset([self.step]),
            forced=frozenset([self.step] if self.is_forced else []),
            skipped={},
        )


@dataclass(frozen=True)
class Planned:
    """A job that has a plan.

    Attributes:
        plan: the plan.
        environment: the environment variables that the job sets.
        swept: its overrides in which the jobs differ.
    """

    plan: Plan
    environment: Mapping[str, str]
    swept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """What a sweep makes.

    Attributes:
        tasks: by key; what a task needs stands before it.
        jobs: the keys that each job needs, in order.
    """

    tasks: Mapping[str, Task]
    jobs: Mapping[int, tuple[str, ...]]


def merge(jobs: Mapping[int, Planned]) -> Graph:
    """The graph of several jobs; a job without a task finds all done, or meets an error of its own when it runs.

    An artifact that a job needs and may not make, such as the checkpoint of `stage=search`, is a task if another job
    of the sweep makes it.
    """
    makes = {key_of(step) for job in jobs.values() for step in job.plan.makes if _is_made(step)}
    wanted: dict[int, list[Step]] = {}
    for number, job in jobs.items():
        allowed = frozenset(step for step in job.plan.steps if _is_made(step) and key_of(step) in makes)
        plan = replace(job.plan, makes=job.plan.makes | allowed)
        try:
            steps, _ = checked_steps(plan, Store(plan.experiment.root))
        except Exception as error:  # the job meets it again when it runs, and records it; the others are not stopped
            log.info("graph: job %d takes no part: %s", number, str(error).partition("\n")[0])
            continue
        wanted[number] = [step for step in steps if _is_made(step)]
    keys = {key_of(step) for steps in wanted.values() for step in steps}
    forced = {key_of(step) for number in wanted for step in jobs[number].plan.forced if _is_made(step)}
    tasks: dict[str, Task] = {}
    for number, steps in wanted.items():
        job = jobs[number]
        for step in steps:
            key = key_of(step)
            needs = frozenset(key_of(before) for _, before in step.before if _is_made(before)) & keys
            task = tasks.setdefault(key, Task(key, step, needs, key in forced, job.environment, job.swept))
            tasks[key] = replace(task, swept=tuple(one for one in task.swept if one in job.swept))
    return Graph(_sorted(tasks), {number: tuple(map(key_of, steps)) for number, steps in wanted.items()})


def divided(tasks: Mapping[str, Task], shares: int) -> dict[str, Task]:
    """The same tasks, with some before each that can be divided: each makes a share, in any order and on any machine.

    Args:
        tasks: by key.
        shares: how many shares; 1 for none.
    """
    found: dict[str, Task] = {}
    if shares > 1:
        _log_shares(tasks.values(), shares)
    for key, task in tasks.items():
        assert task.step.stage is not None
        if shares > 1 and task.step.stage.divides and not task.is_forced:  # which is made from an empty folder
            before = {f"{key}#{number}": (number, shares) for number in range(shares)}
            found |= {own: replace(task, key=own, share=share) for own, share in before.items()}
            task = replace(task, needs=task.needs | before.keys())
        found[key] = task
    return found


def _log_shares(tasks: Collection[Task], shares: int) -> None:
    """Log how much work keeps all shares of each stage busy, and where the setting is not used.

    How many documents and queries there are is known only when they are read.
    """
    able = [task for task in tasks if task.step.stage is not None and task.step.stage.divides]
    if not able:
        unused = "nothing is to be encoded, searched, scored or re-ranked"
        log.info("hydra.launcher.shares=%d is not used: %s", shares, unused)
    for label in sorted(task.label for task in able if task.is_forced):
        log.warning(
            "hydra.launcher.shares=%d is not used for %s, since force makes it again in one piece; without force it is "
            "divided if it does not exist",
            shares,
            label,
        )
    free = [task for task in able if not task.is_forced]
    for stage, (setting, size, items) in sorted({(task.stage, _piece(task)) for task in free}):
        log.info(
            "%s: with fewer than %s %s some of the %d shares may have nothing to do, since %s=%d; then lower it, or "
            "hydra.launcher.shares",
            *(stage, f"{(shares - 1) * size + 1:,}", items, shares, setting, size),
        )


def _piece(task: Task) -> tuple[str, int, str]:
    """The setting that says how much a share makes at a time, its value, and what it counts."""
    setting, items = ("shard_size", "documents") if task.stage == "encode" else ("query_batch", "queries")
    return f"machine.{setting}", int(task.step.experiment.values["machine"][setting]), items


def key_of(step: Step) -> str:
    """What tells a step's artifact from all others: its digest, not its name, which is for display."""
    assert isinstance(step.artifact, Identity)
    return f"{step.experiment.root.absolute()}/{step.artifact.kind}/{digest_in(step.artifact.name)}"


def _is_made(step: Step) -> bool:
    """Whether a step is one of the graph's: it makes an artifact, and is not left to the jobs."""
    return isinstance(step.artifact, Identity) and step.stage is not None and step.stage.name not in LEFT_TO_JOBS


def _sorted(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The same tasks, each after those that it needs.

    They may stand in another order where a job of the sweep makes again what an earlier job only uses.
    """
    found: dict[str, Task] = {}

    def visit(task: Task) -> None:
        for key in sorted(task.needs - found.keys()):
            visit(tasks[key])
        found.setdefault(task.key, task)

    for task in tasks.values():
        visit(task)
    return found
