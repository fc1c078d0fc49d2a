"""What a job writes to its tracker besides curves: measures, tables, values per query, artifacts, and how it ended.

In wandb an artifact is named after its identity and holds its manifest; a job logs the artifacts that it makes and uses
their inputs, which gives its lineage graph. The other trackers get files: MLflow among the files of the run, csv and
TensorBoard in the job's folder.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger

from irexp.artifact.manifest import MANIFEST
from irexp.training.mlflow_tracker import allowed_by_mlflow
from irexp.training.tracked_job import Ending
from irexp.training.tracking import WandbTracker

if TYPE_CHECKING:
    from irexp.evaluation.measures import Measured
    from irexp.evaluation.table import Table

#: The most characters that wandb allows in the name of an artifact.
_LONGEST_NAME = 128

#: The most characters that MLflow allows in a tag.
_LONGEST_TAG = 5000


@dataclass(frozen=True)
class TrackedArtifact:
    """An artifact, as trackers show it.

    Attributes:
        name: its identifier, or what was given: a path or the name of a hub model.
        kind: such as checkpoint or run.
        folder: its folder, if it is on this machine.
        is_input: whether the job only uses it.
        made_from: the names of its direct inputs.
        measures: what its stage measured.
    """

    name: str
    kind: str
    folder: Path | None
    is_input: bool = False
    made_from: Sequence[str] = ()
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Shown:
    """What a job has shown, which some trackers are told at its end.

    Attributes:
        configuration: that of the job.
        measures: all measures so far.
        artifacts: those that it made and used so far.
    """

    configuration: dict[str, Any]
    measures: dict[str, float] = field(default_factory=dict)
    artifacts: list[TrackedArtifact] = field(default_factory=list)


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
        _write(logger, f"table/{name}.md", table.to_markdown())
        _write(logger, f"table/{name}.csv", table.to_csv())


def log_per_query(logger: Logger, name: str, measured: Measured) -> None:
    """Log the measures of each query: in wandb as a table, elsewhere as a file."""
    header = ["query_id", *measured.per_query]
    rows = [
        [query_id, *(values[query_id] for values in measured.per_query.values())] for query_id in measured.query_ids
    ]
    if isinstance(logger, WandbTracker):
        logger.log_table(f"per_query/{name}", columns=header, data=rows)
        return
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    _write(logger, f"per_query/{name}.csv", file.getvalue())


def log_artifact(logger: Logger, artifact: TrackedArtifact) -> None:
    """Log an artifact as made by the job, or as its input, in wandb; the others get a list from `finish`."""
    if not isinstance(logger, WandbTracker):
        return
    import wandb

    metadata = {
        "identity": artifact.name,
        "path": str(artifact.folder) if artifact.folder else None,
        "made_from": list(artifact.made_from),
        "measures": dict(artifact.measures),
    }
    entry = wandb.Artifact(artifact_name(artifact), artifact.kind, metadata=metadata)
    if artifact.folder is not None and (artifact.folder / MANIFEST).is_file():
        if artifact.kind in logger.upload and not artifact.is_input:
            entry.add_dir(str(artifact.folder), policy="immutable")  # without another copy on this machine
        else:
            entry.add_file(str(artifact.folder / MANIFEST))
    # run.use_artifact() refuses to work offline; this is what it does online with an artifact that has no version yet
    logger.experiment._log_artifact(entry, is_user_created=True, use_after_commit=artifact.is_input)


def artifact_name(artifact: TrackedArtifact) -> str:
    """The name of an artifact in wandb, which allows fewer characters: `run.sbert.vaswani-4ac238f2`."""
    name = artifact.name if artifact.name.startswith(f"{artifact.kind}/") else f"{artifact.kind}/{artifact.name}"
    plain = re.sub(r"[^\w.-]", "-", name.replace("/", "."), flags=re.ASCII)
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 40]}{plain[-40:]}"


def finish(logger: Logger, shown: Shown, ending: Ending) -> None:
    """Close the tracker, so that the next job of this process gets its own run; say how the job ended, and of what.

    Args:
        logger: the tracker.
        shown: TensorBoard shows the configuration next to the measures; all but wandb get the list of artifacts.
        ending: the run is marked failed unless it is a success.
    """
    if isinstance(logger, TensorBoardLogger) and shown.measures:
        logger.log_hyperparams(shown.configuration, shown.measures)
    if isinstance(logger, WandbTracker):
        _finish_wandb(logger, ending)
        return
    if shown.artifacts:
        listed = [asdict(artifact) for artifact in shown.artifacts]
        _write(logger, "artifacts.json", json.dumps(listed, indent=1, default=str) + "\n")
    if isinstance(logger, CSVLogger):
        _write(logger, "outcome.json", json.dumps(asdict(ending)) + "\n")
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text("outcome", f"{ending.outcome}: {ending.error}" if ending.error else ending.outcome)
    elif isinstance(logger, MLFlowLogger):
        for name, value in asdict(ending).items():  # also without an error, since an earlier attempt may have had one
            logger.experiment.set_tag(logger.run_id, f"irexp.{name}", (value or "")[:_LONGEST_TAG])
    logger.finalize("success" if ending.is_success else "failed")


def _finish_wandb(logger: WandbTracker, ending: Ending) -> None:
    import wandb

    logger.experiment.summary.update(asdict(ending))
    logger.finalize("success" if ending.is_success else "failed")
    wandb.finish(exit_code=0 if ending.is_success else 1)


def _write(logger: Logger, path: str, text: str) -> None:
    """Write a file: in MLflow among the files of the run, for csv and TensorBoard in the job's folder."""
    if isinstance(logger, MLFlowLogger):
        stem, dot, suffix = path.rpartition(".")
        logger.experiment.log_text(logger.run_id, text, allowed_by_mlflow(stem) + dot + suffix)
    elif logger.save_dir is not None:
        file = Path(logger.save_dir, *(part if part.strip(".") else "_" for part in path.split("/")))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf8")


def _verbatim(text: str) -> str:
    """Text as Markdown that shows it unchanged."""
    return "".join(f"    {line}\n" for line in text.splitlines())
