"""The model card of a checkpoint: how to open it, how it was trained, and its measures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.utils import get_class

from irexp.artifact.manifest import MANIFEST, read_manifest
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.checkpoint.layout import Home


def model_card(
    configuration: Mapping[str, Any],
    *,
    repository: str,
    identity: str,
    validation: Mapping[str, float],
    measures: Mapping[str, float] | None = None,
) -> str:
    """A card in Markdown, with the hub's metadata on top.

    Args:
        configuration: the experiment's, resolved, as plain values.
        repository: what opens the model: a name on the hub, or the path of a folder.
        identity: the checkpoint's identifier, which ends in a digest of all its settings.
        validation: the best validation measures.
        measures: those of the test queries, if any.
    """
    target = str(configuration["model"]["_target_"])
    kind = target.rpartition(".")[2]
    base = configuration["artifact"].get("initial") or (configuration.get("backbone") or {}).get("name_or_path")
    home = _home(target)
    head = {
        "library_name": home.library.lower() if home else "transformers",
        "tags": ["information-retrieval", "irexp", str(configuration["model"]["name"])],
        "pipeline_tag": "text-ranking" if configuration["artifact"]["index"] is None else "feature-extraction",
        "base_model": None if _is_local(base) else base,
    }
    metadata = yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False)
    parts = [
        f"---\n{metadata}---",
        f"# {repository}",
        f"A {kind} trained by irexp on `{configuration['dataset']['name']}`{_start(configuration)}. Its identity is "
        f"`{identity}`, a digest of everything below.",
        "## Use",
        _usage(repository, home),
        "## Training",
        _table(_training(configuration), ("setting", "value")),
        *_results(configuration, validation, measures),
    ]
    return "\n\n".join(parts) + "\n"


def write_card(
    folder: Path, configuration: Mapping[str, Any], *, name: str, root: Path, validation: Mapping[str, float]
) -> None:
    """Write the card of a new checkpoint into its folder, as README.md.

    Args:
        folder: the checkpoint's folder, still under its temporary name.
        configuration: the experiment's, resolved, as plain values.
        name: the checkpoint's identifier.
        root: the folder of all artifacts.
        validation: the best validation measures.
    """
    card = model_card(configuration, repository=f"{root.name}/{name}", identity=name, validation=validation)
    (folder / "README.md").write_text(card, encoding="utf8")


def card_of(checkpoint: Path, repository: str, measures: Path | None) -> str:
    """The card of a checkpoint that irexp made, with its measures.

    Raises:
        UserError: if irexp did not make it.
    """
    if not (checkpoint / MANIFEST).is_file():
        raise UserError(
            f"{checkpoint} was not made by irexp, so a card could not say how it was made; name one of stage=fit"
        )
    recorded = read_manifest(checkpoint)["provenance"]
    return model_card(
        recorded["configuration"],
        repository=repository,
        identity=f"checkpoint/{checkpoint.name}",
        validation=recorded["measures"],
        measures=read_manifest(measures)["provenance"]["measures"] if measures else None,
    )


def _home(target: str) -> Home | None:
    """The library that opens the checkpoints of a class; None if none does, or the class no longer exists."""
    try:
        home: Home | None = get_class(target).home  # type: ignore[attr-defined]
        return home
    except (ImportError, AttributeError):
        return None


def _start(configuration: Mapping[str, Any]) -> str:
    """Where training started, unless from a model on the hub, which the metadata name."""
    if (initial := configuration["artifact"].get("initial")) is not None:
        return f", from the checkpoint `{Path(initial).name if _is_local(initial) else initial}`"
    backbone = configuration.get("backbone") or {}
    if "package" not in backbone:
        return ""
    return f", from the weights in the package {backbone['package']} {backbone['version']}"


def _is_local(value: Any) -> bool:
    """Whether a value is a local path, of which a card shows only the last part."""
    return isinstance(value, str) and value.startswith(("/", "~/", "./", "../", "${oc.env:"))


def _usage(repository: str, home: Home | None) -> str:
    lines = [
        "```python",
        "from irexp import load",
        "",
        f'model = load("{repository}")',
        'model.score("a query", ["a document", "another"])',
    ]
    if home is not None:
        lines += ["", f"# or in {home.library}", *home.lines(repository)]
    return "\n".join([*lines, "```"])


def _training(configuration: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that decided the weights, one row per value."""
    if configuration["training"]["steps"] == 0:
        return [("training.steps", "0: the backbone without fine-tuning"), ("seed", str(configuration["seed"]))]
    rows = [("seed", str(configuration["seed"])), ("dataset", str(configuration["dataset"]["name"]))]
    for part in ("documents", "train", "dev"):
        rows += [(key, str(value)) for key, value in _flat(configuration["dataset"].get(part) or {}, f"dataset.{part}")]
    for section in (
        "backbone",
        "model",
        "loss",
        "regularizer",
        "negatives",
        "false_negatives",
        "adapter",
        "training",
        "optimizer",
        "schedule",
    ):
        for key, value in _flat(configuration.get(section) or {}, section):
            rows.append((key, str(value)))
    return rows


def _flat(node: Mapping[str, Any], path: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in node.items():
        if key == "_target_":
            rows.append((path, str(value).rpartition(".")[2]))
        elif isinstance(value, Mapping):
            rows += _flat(value, f"{path}.{key}") if path != "model" else []  # a model's backbone has rows of its own
        elif value is not None and not str(key).startswith("_"):
            rows.append((f"{path}.{key}", Path(str(value)).name if _is_local(value) else value))
    return rows


def _results(
    configuration: Mapping[str, Any], validation: Mapping[str, float], measures: Mapping[str, float] | None
) -> list[str]:
    parts = []
    if validation:
        parts += [
            "## Validation",
            _table([(name, f"{value:.4f}") for name, value in validation.items()], ("", "value")),
        ]
    if measures:
        found = [(name, f"{value:.4f}") for name, value in measures.items()]
        task = (
            "re-ranking another run" if configuration["artifact"]["index"] is None else "searching the whole collection"
        )
        parts += ["## Results", f"The test queries of `{configuration['dataset']['name']}`, {task}."]
        parts.append(_table(found, ("measure", "value")))
    return parts


def _table(rows: list[tuple[str, str]], head: tuple[str, str]) -> str:
    cells = [(f"`{name}`", value.replace("|", "\\|").replace("\n", "⏎")) for name, value in rows]
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in cells)]
    return "\n".join(lines)
