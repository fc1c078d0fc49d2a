"""The stages of all experiments that take part in a job, and the inputs of each; nothing is digested here.

Baselines, and experiments whose runs are re-ranked, fused or used for negatives, are composed as they are found, at any
depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from irexp.artifact.experiment import Experiment, group_of
from irexp.artifact.spec import Other, Own, Rows, StageSpec
from irexp.artifact.stages import STAGES
from irexp.artifact.values import OWN, Values, runs_of, select
from irexp.config.check import ConfigError
from irexp.config.override import as_typed
from irexp.types import UserError

#: Why the artifacts of a job's own experiment take part.
OWN_REASON = "this experiment"


class Elsewhere(NamedTuple):
    """A given artifact: its kind, its value, the setting that names it, and the value as it is recorded and shown."""

    kind: str
    value: str
    typed: str
    shown: str


@dataclass(frozen=True, eq=False)
class Node:
    """A stage of an experiment, or a given artifact, and its inputs.

    Attributes:
        origin: the stage that makes it, or what was typed.
        experiment: the experiment whose settings apply.
        inputs: by name, in the order in which the stage lists them.
        reason: why it takes part: "this experiment", "baseline …", "re_rank.candidates of mono" …
    """

    origin: StageSpec | Elsewhere
    experiment: Experiment
    inputs: Mapping[str, Nodes]
    reason: str


#: An input: one, several, or none.
Nodes: TypeAlias = "Node | tuple[Node, ...] | None"


@dataclass
class Wiring:
    """The nodes of a job, as they are found.

    Attributes:
        experiment: the job's experiment.
        nodes: all nodes, inputs before their users.
        goals: the requested nodes of the experiment and its baselines, or of all cells of its table.
        own: the same without the baselines.
        on_the_way: the nodes of other experiments, whose runs the goals need.
        skipped: the stages of the experiment that make nothing, and why.
        faults: what is wrong, one line each.
        cells: the requested measures, with the names of their row and column in the table, if they have one.
        places: the same for all requested nodes, without the baselines.
    """

    experiment: Experiment
    nodes: list[Node] = field(default_factory=list)
    goals: list[Node] = field(default_factory=list)
    own: list[Node] = field(default_factory=list)
    on_the_way: set[Node] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    cells: list[tuple[str | None, str | None, Node]] = field(default_factory=list)
    places: list[tuple[str | None, str | None, Node]] = field(default_factory=list)
    _found: dict[tuple[Experiment, str], Node | None] = field(default_factory=dict)
    _composed: dict[tuple[Experiment, str], Experiment | None] = field(default_factory=dict)

    def add(self, names: Sequence[str]) -> None:
        """Add the stages of every cell of the table; baselines only if the job ends with a stage over all of them."""
        stages = [STAGES[name] for name in names if name in STAGES]
        sources = [source for stage in stages for source in stage.inputs.values()]
        is_compared = "evaluate" in names and any(isinstance(source, Rows) for source in sources)
        for row, column, changes, reason in self._places(is_compared=is_compared):
            experiment: Experiment | None = self.experiment
            if changes:
                change = self.experiment.cell if row is not None else self.experiment.baseline
                experiment = self._compose(self.experiment, reason, partial(change, changes))
            if experiment is None:
                continue
            is_own = not reason.startswith("baseline")
            nodes = self._goals(experiment, stages, reason, self.skipped if is_own else {})
            self.goals += nodes
            self.own += nodes if is_own else []
            self.places += [(row, column, node) for node in nodes if is_own]
            self.cells += [(row, column, node) for node in nodes if node.origin == STAGES["evaluate"]]
        measured = tuple(node for _, _, node in self.cells)
        for stage in stages:
            if stage.makes is None:
                inputs = self._inputs(self.experiment, stage, OWN_REASON, rows=measured)
                self.nodes.append(Node(stage, self.experiment, inputs, OWN_REASON))
                self.own.append(self.nodes[-1])
                self.goals.append(self.nodes[-1])

    def _places(self, *, is_compared: bool) -> Iterator[tuple[str | None, str | None, list[str], str]]:
        """The cells of the table: names of row and column if they have one, changes to the experiment, and a reason."""
        recorded = self.experiment.recorded
        rows: list[tuple[str | None, list[str], str]]
        if named := recorded.get("rows"):
            rows = [(name, list(changes), f"row {name}") for name, changes in named.items()]
        else:
            baselines = [each for each in recorded["baselines"] if self._is_other(each)] if is_compared else []
            rows = [(None, list(changes), f"baseline {' '.join(changes)}") for changes in baselines]
            rows.append((None, [], OWN_REASON))
        for row, changes, reason in rows:
            for column, more in (recorded.get("columns") or {None: []}).items():
                where = f"{reason}, column {column}" if column is not None else reason
                yield row, column, [*changes, *more], where

    def _is_other(self, changes: Sequence[str]) -> bool:
        """Whether a baseline may differ from the experiment: its training does not where nothing is trained."""
        return "fit" not in self.experiment.skipped or not all(group_of(change) == "training" for change in changes)

    def _goals(
        self, experiment: Experiment, stages: Sequence[StageSpec], reason: str, skipped: dict[str, str]
    ) -> list[Node]:
        """The nodes of the stages that make an artifact; the reasons of the others are added to `skipped`."""
        goals = []
        for stage in stages:
            if stage.makes is None:
                continue
            if stage.name in experiment.skipped:
                skipped[stage.name] = experiment.skipped[stage.name]
            elif (node := self._node(experiment, stage, reason)) is not None:
                goals.append(node)
        return goals

    def _node(self, experiment: Experiment, stage: StageSpec, reason: str, *, is_other: bool = False) -> Node | None:
        """The node of a stage, added after its inputs; None if a required input is missing."""
        key = (experiment, stage.name)
        if key not in self._found:
            before = len(self.faults)
            inputs = self._inputs(experiment, stage, reason, is_other=is_other)
            node = Node(stage, experiment, inputs, reason) if len(self.faults) == before else None
            self._found[key] = node
            self.nodes += [node] if node is not None else []
        found = self._found[key]
        if is_other and found is not None:
            self.on_the_way.add(found)
        return found

    def _inputs(
        self,
        experiment: Experiment,
        stage: StageSpec,
        reason: str,
        *,
        rows: tuple[Node, ...] = (),
        is_other: bool = False,
    ) -> dict[str, Nodes]:
        """The inputs of a stage; a required input that is missing is a fault."""
        inputs: dict[str, Nodes] = {}
        for name, source in stage.inputs.items():
            if isinstance(source, Own):
                if not source.when(experiment.values):
                    inputs[name] = None
                    continue
                is_unasked = is_other or source.is_made
                inputs[name] = self._artifact(experiment, source.kind, reason, is_other=is_unasked)
                is_needed = not source.optional and not source.if_exists
                if is_needed and experiment.values["artifact"].get(source.kind, OWN) is None:
                    self.faults.append(f"stage={stage.name}: {select(experiment.values, 'model.name')} has no {name}")
            elif isinstance(source, Other):
                inputs[name] = self._others(experiment, source)
            else:
                inputs[name] = (rows or None) if isinstance(source, Rows) else None
        return inputs

    def _artifact(self, experiment: Experiment, kind: str, reason: str, *, is_other: bool) -> Node | None:
        """The node of an experiment's artifact; None if it has none of this kind."""
        value = experiment.values["artifact"].get(kind, OWN)
        if value is None:
            return None
        if value != OWN:
            shown = str(experiment.recorded["artifact"][kind])
            return self._elsewhere(experiment, Elsewhere(kind, str(value), f"artifact.{kind}", shown), reason)
        return self._node(experiment, experiment.makers[kind], reason, is_other=is_other)

    def _elsewhere(self, experiment: Experiment, origin: Elsewhere, reason: str) -> Node:
        self.nodes.append(Node(origin, experiment, {}, reason))
        return self.nodes[-1]

    def _others(self, experiment: Experiment, source: Other) -> Nodes:
        """The artifacts of other experiments that an input names."""
        entry, shown = (select(values, source.setting) for values in (experiment.values, experiment.recorded))
        if entry is None or not source.when(experiment.values):
            return None
        if source.is_alone:
            entry, shown = runs_of(entry), runs_of(shown)
        for one in entry if source.several else [entry]:
            if not (one is None or isinstance(one, str) or _is_overrides(one)):
                self.faults.append(
                    f"{source.setting}: {one!r} is neither a list of overrides, such as [model=bm25], nor the name of "
                    f"a {source.kind}"
                )
                return None
        if not source.several:
            return self._other(experiment, entry, shown, source)
        found = [
            self._other(experiment, one, as_shown, source)
            for one, as_shown in zip(
                _given_twins(entry, source, experiment.values),
                _given_twins(shown, source, experiment.recorded),
                strict=True,
            )
            if one is not None
        ]
        return tuple(node for node in found if node is not None)

    def _other(
        self, experiment: Experiment, entry: str | list[str], shown: str | list[str], source: Other
    ) -> Node | None:
        """The artifact of another experiment, or a given one; `shown` is the entry as it is recorded and shown."""
        reason = f"{source.setting} of {select(experiment.values, 'model.name')}"
        reason += f", for {source.topics}" if source.topics else ""
        if isinstance(entry, str):
            origin = Elsewhere(source.kind, entry, source.twins or source.setting, str(shown))
            return self._elsewhere(experiment, origin, reason)
        overrides = list(shown)
        if source.topics is not None and select(experiment.values, source.topics) is None:
            missing = f"{source.setting}: needs {source.topics}, which the dataset does not set"
            self.faults.append(f"{missing}; {source.hint}" if source.hint else missing)
            return None
        named = f"{source.setting}=[{', '.join(overrides)}]" + (f" for {source.topics}" if source.topics else "")
        more = _scored_by(experiment) if source.kind == "scores" else []
        other = self._compose(experiment, named, partial(experiment.other, overrides, source.topics, more))
        if other is None:
            return None
        if source.kind == "scores" and other.values["dataset"]["train"] != experiment.values["dataset"]["train"]:
            self.faults.append(f"{named}: it must score this experiment's dataset.train, and sets another one")
            return None
        if (found := self._artifact(other, source.kind, reason, is_other=True)) is None:
            self.faults.append(f"{named}: this experiment makes no {source.kind}")
        return found

    def _compose(self, experiment: Experiment, named: str, compose: Callable[[], Experiment]) -> Experiment | None:
        """Another experiment, composed once; None if it has faults, which are recorded."""
        key = (experiment, named)
        if key not in self._composed:
            self._composed[key] = None
            try:
                self._composed[key] = compose()
            except UserError as error:
                faults = error.faults if isinstance(error, ConfigError) else [str(error)]
                self.faults += [f"{named}: {fault}" for fault in faults]
        return self._composed[key]


def _is_overrides(entry: Any) -> bool:
    return isinstance(entry, list) and all(isinstance(override, str) for override in entry)


def _scored_by(experiment: Experiment) -> list[str]:
    """The overrides of a teacher that say what it scores: the documents that negatives are drawn from."""
    negatives = experiment.recorded["negatives"]
    if negatives["candidates"] is None:
        return []
    return [f"score.candidates={as_typed(negatives['candidates'])}", f"score.depth={as_typed(negatives['depth'])}"]


def _given_twins(entry: Sequence[Any], source: Other, values: Values) -> list[Any]:
    """The entries of a setting that lists several, with the given runs that answer other queries in their place."""
    twins = (source.twins and select(values, source.twins)) or entry
    return [twin if isinstance(one, str) else one for one, twin in zip(entry, twins, strict=False)]
