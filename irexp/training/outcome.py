"""What a job writes to its tracker besides curves: measures, tables, values per query, and artifacts.

In wandb an artifact is named after its identity and holds its manifest; a job logs the artifacts that it makes and uses
their inputs, which gives wandb's lineage graph. Each tracker shows what it can: see `log_table` and `log_per_query`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from irexp.artifact.manifest import MANIFEST
from irexp.training.tracking import WandbTracker

if TYPE_CHECKING:
    from irexp.evaluation.measures import Measured
    from irexp.evaluation.table import Table

#: The most characters that wandb allows in the name of an artifact.
_LONGEST_NAME = 128


@dataclass(frozen=True)
class TrackedArtifact:
    """An artifact, as trackers show it.

    Attributes:
        name: its identifier, or what was given: a path or the name of a hub model.
        kind: such as checkpoint or run.
        folder: its folder, if it is on this machine.
        made_from: the names of its direct inputs.
        measures: what its stage measured.
    """

    name: str
    kind: str
    folder: Path | None
    made_from: Sequence[str] = ()
    measures: Mapping[str, float] | None = None


def log_configuration(logger: Logger, configuration: dict[str, Any]) -> None:
    """Log the configuration of the job as hyperparameters."""
    logger.log_hyperparams(configuration)
    if isinstance(logger, TensorBoardLogger):  # its hyperparameters are shown once there are measures
        logger.experiment.add_text("configuration", _verbatim(yaml.safe_dump(configuration, sort_keys=False)))


def log_measures(logger: Logger, measures: dict[str, float]) -> None:
    """Log measures; TensorBoard gets them at the end of the job, from `finish`."""
    if not isinstance(logger, TensorBoardLogger):
        logger.log_metrics(measures)


def log_table(logger: Logger, name: str, table: Table) -> None:
    """Log a table: in wandb as a table, in TensorBoard as text, in MLflow as files; csv has it beside its file."""
    if isinstance(logger, WandbTracker):
        header, *rows = csv.reader(io.StringIO(table.to_csv()))
        logger.log_table(f"table/{name}", columns=header, data=rows)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(f"table/{name}", table.to_markdown())
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_text(logger.run_id, table.to_markdown(), f"table/{name}.md")
        logger.experiment.log_text(logger.run_id, table.to_csv(), f"table/{name}.csv")


def log_per_query(logger: Logger, name: str, measured: Measured) -> None:
    """Log the measures of each query: in wandb as a table, in MLflow as a file; the measures' artifact has them too."""
    header = ["query_id", *measured.per_query]
    rows = [
        [query_id, *(values[query_id] for values in measured.per_query.values())] for query_id in measured.query_ids
    ]
    if isinstance(logger, WandbTracker):
        logger.log_table(f"per_query/{name}", columns=header, data=rows)
    elif isinstance(logger, MLFlowLogger):
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
        logger.experiment.log_text(logger.run_id, file.getvalue(), f"per_query/{name}.csv")


def log_artifact(logger: Logger, artifact: TrackedArtifact, *, is_input: bool) -> None:
    """Log an artifact as made by the job, or as its input; wandb alone shows such a graph.

    Args:
        logger: the tracker.
        artifact: the artifact.
        is_input: whether the job only uses it.
    """
    if not isinstance(logger, WandbTracker):
        return
    import wandb

    metadata = {
        "identity": artifact.name,
        "path": str(artifact.folder) if artifact.folder else None,
        "made_from": list(artifact.made_from),
        "measures": dict(artifact.measures or {}),
    }
    entry = wandb.Artifact(artifact_name(artifact), artifact.kind, metadata=metadata)
    if artifact.folder is not None and (artifact.folder / MANIFEST).is_file():
        if artifact.kind in logger.upload and not is_input:
            entry.add_dir(str(artifact.folder), policy="immutable")  # without another copy on this machine
        else:
            entry.add_file(str(artifact.folder / MANIFEST))
    # run.use_artifact() refuses to work offline; this is what it does online with an artifact that has no version yet
    logger.experiment._log_artifact(entry, is_user_created=True, use_after_commit=is_input)


def artifact_name(artifact: TrackedArtifact) -> str:
    """The name of an artifact in wandb, which allows fewer characters: `run.sbert.vaswani-4ac238f2`."""
    name = artifact.name if artifact.name.startswith(f"{artifact.kind}/") else f"{artifact.kind}/{artifact.name}"
    plain = re.sub(r"[^\w.-]", "-", name.replace("/", "."), flags=re.ASCII)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 40]}{plain[-40:]}"


def finish(logger: Logger, configuration: dict[str, Any], measures: dict[str, float], *, exit_code: int = 0) -> None:
    """Close the tracker, so that the next job of this process gets its own run.

    Args:
        logger: the tracker.
        configuration: that of the job, which TensorBoard shows next to the measures.
        measures: all measures of the job.
        exit_code: the run is marked failed unless it is 0.
    """
    if isinstance(logger, TensorBoardLogger) and measures:
        logger.log_hyperparams(configuration, measures)
    logger.finalize("success" if exit_code == 0 else "failed")
    if isinstance(logger, WandbTracker):
        import wandb

        wandb.finish(exit_code=exit_code)


def _verbatim(text: str) -> str:
    """Text as Markdown that shows it unchanged."""
    return "".join(f"    {line}\n" for line in text.splitlines())
