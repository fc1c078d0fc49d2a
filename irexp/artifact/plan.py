"""The plan of an experiment: what will be made, from what, and why.

Making a plan composes, digests and checks, and opens only small local files. One message names every fault of every
experiment that takes part, before anything is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from irexp.artifact.experiment import Experiment
from irexp.artifact.identity import Given, Identity, identify
from irexp.artifact.spec import Other, Own, StageSpec
from irexp.artifact.stages import STAGES
from irexp.artifact.values import is_trained
from irexp.artifact.wiring import Node, Wiring


@dataclass(frozen=True, eq=False)
class Step:
    """One artifact, and the stage that makes it.

    Attributes:
        artifact: its identity; None for a stage that makes no artifact.
        stage: the stage that makes it; None for a given artifact.
        experiment: the experiment whose settings apply.
        inputs: the inputs of the stage, by name.
        before: the inputs as single steps, each with the input's name.
        needs: the inputs that must exist before it can be made: those whose paths its stage receives.
        names: the names of its inputs, of their inputs in the same experiment, and its own.
        reason: why it is in the plan: "this experiment", "baseline …", "re_rank.candidates of mono" …
    """

    artifact: Identity | Given | None
    stage: StageSpec | None
    experiment: Experiment
    inputs: Mapping[str, Steps]
    before: tuple[tuple[str, Step], ...]
    needs: tuple[Step, ...]
    names: Mapping[str, str | list[str]]
    reason: str

    @property
    def name(self) -> str:
        """The artifact's name, or the stage's if it makes none."""
        return self.artifact.name if self.artifact is not None else self.stage.name if self.stage else ""

    @property
    def trains(self) -> bool:
        """Whether making it fine-tunes a model."""
        return self.stage is STAGES["fit"] and is_trained(self.experiment.values)


#: An input: one step, several, or none.
Steps: TypeAlias = Step | tuple[Step, ...] | None


@dataclass(frozen=True)
class Placed:
    """Measures, and their place in a table.

    Attributes:
        folder: of the measures.
        row: the name of the row; None to name it after its settings.
        column: the name of the column; None to name it after the collection.
    """

    folder: Path
    row: str | None = None
    column: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a job will do.

    Attributes:
        experiment: the job's experiment.
        steps: each artifact once, after its inputs; stages that make no artifact come last.
        goals: the requested steps of the experiment and its baselines, or of all cells of its table.
        own: the same without the baselines.
        makes: the steps that the job makes if they are missing; it never trains unasked.
        forced: the steps that it makes even if they exist.
        skipped: the stages of this experiment that make nothing, and why.
        cells: the requested measures, with the names of their row and column in the table, if they have one.
        places: the same for all of `own` that make an artifact.
    """

    experiment: Experiment
    steps: tuple[Step, ...]
    goals: tuple[Step, ...]
    own: tuple[Step, ...]
    makes: frozenset[Step]
    forced: frozenset[Step]
    skipped: Mapping[str, str]
    cells: tuple[tuple[str | None, str | None, Step], ...] = ()
    places: tuple[tuple[str | None, str | None, Step], ...] = ()

    @property
    def rows(self) -> dict[str | None, list[Step]]:
        """The requested steps of each named row, column by column, under None if there are none; no baselines."""
        found: dict[str | None, list[Step]] = {}
        for row, _, step in self.places:
            found.setdefault(row, []).append(step)
        return found


def make_plan(experiment: Experiment, stages: Sequence[str]) -> Plan:
    """Plan the stages of an experiment and of its baselines, with all their inputs at any depth.

    Raises:
        ConfigError: naming every fault of every experiment that takes part.
    """
    from irexp.artifact.faults import refuse  # which imports this module

    plan, faults = draft_plan(experiment, stages)
    refuse(plan, stages, faults)
    return plan


def draft_plan(experiment: Experiment, stages: Sequence[str]) -> tuple[Plan, list[str]]:
    """A plan, as complete as it can be built, and the faults that prevent the rest."""
    wiring = Wiring(experiment)
    wiring.add(stages)
    step_of = _merge(wiring.nodes)
    goals = tuple(dict.fromkeys(step_of[node] for node in wiring.goals))
    own = tuple(dict.fromkeys(step_of[node] for node in wiring.own))
    others = {step_of[node] for node in wiring.on_the_way}
    plan = Plan(
        experiment,
        steps=tuple(dict.fromkeys(step_of.values())),
        goals=goals,
        own=own,
        makes=_makes(goals, others, is_full_pipeline={"fit", "evaluate"} <= set(stages)),
        forced=frozenset(step for step in own if step.stage and step.stage.name in experiment.values["force"]),
        skipped=wiring.skipped,
        cells=tuple((row, column, step_of[node]) for row, column, node in wiring.cells),
        places=tuple((row, column, step_of[node]) for row, column, node in wiring.places),
    )
    return plan, wiring.faults


def _makes(goals: Sequence[Step], others: set[Step], *, is_full_pipeline: bool) -> frozenset[Step]:
    """The steps that a job may make without training unasked.

    It makes what was requested. If it needs the run of another experiment, it also makes that and its inputs, except
    for the checkpoint: only a full pipeline, from fine-tuning to measures, trains other experiments, and a requested
    training those that it begins from or learns from.
    """
    rounds = {step for goal in goals if goal.trains for step in _earlier_rounds(goal)}
    return frozenset(goals) | {step for step in others if is_full_pipeline or not step.trains or step in rounds}


def _earlier_rounds(step: Step) -> Iterator[Step]:
    """What a training begins from and learns from, with all that these are made from."""
    for name, before in step.before:
        source = step.stage.inputs[name] if step.stage else None
        if isinstance(source, Other) and source.trains:
            yield from closure(before)
        elif isinstance(source, Own) and source.is_made:
            yield from _earlier_rounds(before)


def closure(step: Step) -> Iterator[Step]:
    """All steps that a step is made from, and then itself, each once."""
    found: dict[Step, None] = {}

    def visit(one: Step) -> None:
        for _, before in one.before:
            if before not in found:
                visit(before)
        found.setdefault(one)

    visit(step)
    yield from found


def _merge(nodes: Sequence[Node]) -> dict[Node, Step]:
    """The step of each node; nodes of the same artifact share one."""
    step_of: dict[Node, Step] = {}
    steps: dict[object, Step] = {}
    for node, artifact in identify(nodes).items():
        stage = node.origin if isinstance(node.origin, StageSpec) else None
        inputs = {name: _steps(found, step_of) for name, found in node.inputs.items()}
        before = tuple((name, step) for name, found in inputs.items() for step in _each(found))
        sources = stage.inputs if stage else {}
        step = Step(
            artifact,
            stage,
            node.experiment,
            inputs,
            before,
            needs=tuple(step for name, step in before if _is_required(sources[name])),
            names=_names(artifact, inputs, sources),
            reason=node.reason,
        )
        key = (artifact.kind, str(artifact.entry), stage is None) if artifact is not None else node
        step_of[node] = steps.setdefault(key, step)
    return step_of


def _steps(found: Node | tuple[Node, ...] | None, step_of: Mapping[Node, Step]) -> Steps:
    if isinstance(found, tuple):
        return tuple(step_of[node] for node in found)
    return step_of[found] if found is not None else None


def _each(found: Steps) -> Iterator[Step]:
    yield from found if isinstance(found, tuple) else () if found is None else (found,)


def _is_required(source: object) -> bool:
    return not isinstance(source, Own) or (source.handed and not source.if_exists)


def _names(
    artifact: Identity | Given | None, inputs: Mapping[str, Steps], sources: Mapping[str, object]
) -> dict[str, str | list[str]]:
    """The names of an artifact's inputs, by input, and its own, by kind."""
    names: dict[str, str | list[str]] = {}
    for name, found in inputs.items():
        if isinstance(found, tuple):
            names[name] = [step.name for step in found]
        elif found is not None:
            source = sources[name]
            names |= found.names if isinstance(source, Own) and not source.is_made else {}
            names[name] = found.name
    return names if artifact is None else {**names, artifact.kind: artifact.name}
