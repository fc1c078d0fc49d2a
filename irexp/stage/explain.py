"""A plan in words: missing artifacts and how to make them, and the tree that a dry run prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from irexp.artifact.given import nearest_names
from irexp.artifact.identity import Given, Identity
from irexp.artifact.lineage import nearest
from irexp.artifact.plan import Plan, Step
from irexp.artifact.stages import STAGES
from irexp.artifact.store import Store
from irexp.config.installation import program

#: The stages that make the run of any experiment; those that do not apply to it are skipped.
_MAKE_A_RUN = "stage=[fit,index,search,re_rank,fuse]"

#: Differences that an error shows.
_SHOWN = 8


def missing(plan: Plan, step: Step, store: Store) -> str:
    """The message for a missing artifact: the stage that makes it, and how the nearest one differs."""
    root = store.root.resolve()
    if isinstance(step.artifact, Given):
        return (
            f"{step.artifact.typed}={step.artifact.name}: there is no such artifact in {root}, which is needed to make "
            f"another one ({step.reason}){nearest_names(step.artifact.name, root)}"
        )
    assert isinstance(step.artifact, Identity) and step.stage is not None
    if step.experiment is plan.experiment:
        how = f"the same command and stage={step.stage.name}"
    else:
        command = shlex.join([*program().split(), *step.experiment.overrides, _MAKE_A_RUN])
        how = f"{command}, or all with stage=all"
    message = f"there is no {step.name} in {root} ({step.reason}); make it with {how}"
    other = nearest(step.artifact, store.manifests(step.artifact.kind))
    if other is None:
        return f"{message}. There is no other {step.artifact.kind} of this collection either."
    name, found = other
    shown = "\n".join(f"    {line}" for line in found[:_SHOWN])
    more = f"\n    and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{message}. The nearest one, {name}, differs in\n{shown}{more}"


def tree(plan: Plan, store: Store, states: Mapping[Step, str]) -> str:
    """The plan as a tree: what was asked for, with its inputs below; each artifact is shown in full once."""
    lines: list[tuple[str, str]] = []
    shown: set[Step] = set()

    def visit(step: Step, label: str, first: str, rest: str, reason: str = "") -> None:
        name = f"{first}{label}{step.name}"
        if step in shown:
            lines.append((name, "see above"))
            return
        shown.add(step)
        lines.append((name, "  ".join(_words(plan, step, states[step], store, reason))))
        for number, (inner, before) in enumerate(step.before):
            is_last = number == len(step.before) - 1
            first, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            visit(before, f"{inner}: ", f"{rest}{first}", f"{rest}{below}", step.reason)

    for step in _roots(plan):
        visit(step, "", "", "")
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:{width}}  {words}".rstrip() for name, words in lines)


def _roots(plan: Plan) -> Iterator[Step]:
    """The steps that were asked for and are not the input of another step."""
    inner = {before for step in plan.steps for _, before in step.before}
    yield from (step for step in plan.goals if step not in inner)


def _words(plan: Plan, step: Step, state: str, store: Store, reason: str) -> Iterator[str]:
    """The state of a step, its stage, its reason if it differs from `reason`, and an estimate of the seconds."""
    is_made = state in ("absent", "partial", "damaged")
    if is_made and step not in plan.makes:
        yield f"{'missing' if state == 'absent' else state}, not made by this command"
    else:
        yield {"absent": "to make", "partial": "to resume"}.get(state, state)
    if step.stage is not None:
        yield f"stage={step.stage.name}"
    if step.reason != reason:
        yield step.reason
    if is_made and (seconds := estimate(step, store)) is not None:
        yield f"about {seconds:,.0f} s"


def estimate(step: Step, store: Store) -> float | None:
    """The seconds of the latest artifact that the same stage made for the same model and collection."""
    if not isinstance(step.artifact, Identity) or step.stage is None:
        return None
    subject = step.name.partition("/")[2].rpartition("-")[0]
    found = [
        (manifest["provenance"].get("finished", ""), manifest["provenance"].get("seconds"))
        for folder, manifest in store.manifests(step.artifact.kind)
        if folder.name.rpartition("-")[0] == subject and _same_way(manifest["made_from"], step.artifact.made_from)
    ]
    return max(found)[1] if found else None


def _same_way(made: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether two artifacts were made by the same stage, from the same kinds of inputs, both trained or neither."""
    telling = {"training", *(f"artifact.{name}" for stage in STAGES.values() for name in stage.inputs)}
    return telling & made.keys() == telling & wanted.keys()
