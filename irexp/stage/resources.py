"""What the steps of a plan read from a network: known before the first step, fetched by `stage=prepare`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from irexp.artifact.content import exists, is_hub_name
from irexp.artifact.hub import HubModel
from irexp.artifact.identity import Given
from irexp.artifact.plan import Step
from irexp.artifact.resource import Resource
from irexp.artifact.values import select
from irexp.stage.packages import components_with


def resources_of(steps: Sequence[Step], *, package: str = "") -> list[Resource]:
    """The collections and models that steps read, each once; given checkpoints of the hub come first.

    Args:
        steps: of a plan.
        package: see `components_with`.

    Raises:
        UserError: if a component cannot read what it is configured for.
    """
    given = [step.artifact for step in steps if isinstance(step.artifact, Given)]
    models = [HubModel(one.value) for one in given if _is_on_hub(one)]
    found = components_with("resources", _made(steps), package=package)
    return list(dict.fromkeys([*models, *(part for one in found for part in one.resources())]))


def require_resources(steps: Sequence[Step], *, package: str = "") -> None:
    """Find what is known not to exist, such as a collection that ships no documents to re-rank; asks no network.

    Args:
        steps: of a plan.
        package: see `components_with`.

    Raises:
        UserError: saying what to use instead.
    """
    for part in resources_of(steps, package=package):
        part.require()


def require_models(steps: Sequence[Step]) -> None:
    """Fetch the models of the hub that steps read and of which this machine knows nothing, such as a misspelt name.

    Raises:
        UserError: if the hub has no such model, cannot be reached, or refuses.
    """
    given = [before.artifact for step in steps for before in step.needs if isinstance(before.artifact, Given)]
    models = [HubModel(one.value) for one in given if _is_on_hub(one)]
    for model in dict.fromkeys([*models, *(part for part in resources_of(steps) if isinstance(part, HubModel))]):
        if not model.is_commit_known():
            model.fetch()


def unknown_commits(steps: Sequence[Step]) -> list[str]:
    """The hub models of steps whose commits are not known on this machine, so that names may still change."""
    models = [
        HubModel(step.artifact.value)
        for step in steps
        if isinstance(step.artifact, Given) and _is_on_hub(step.artifact)
    ]
    for values in (step.experiment.values for step in _made(steps) if step.trains):
        for key in ("backbone", "model.query_backbone"):
            name = select(values, f"{key}.name_or_path")
            if isinstance(name, str) and is_hub_name(name) and not exists(Path(name)):
                models.append(HubModel(name, select(values, f"{key}.revision")))
    return list(dict.fromkeys(model.name for model in models if not model.is_commit_known()))


def _is_on_hub(artifact: Given) -> bool:
    return artifact.kind == "checkpoint" and artifact.path is None and is_hub_name(artifact.value)


def _made(steps: Iterable[Step]) -> list[Step]:
    return [step for step in steps if step.stage is not None]
