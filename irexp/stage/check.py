"""The stage that compares what an experiment measured with what it claims.

It records what the recipe as it stands has measured in experiments/<name>/measured.json, and writes the table in
experiments/README.md from that; what was measured with other settings is only compared. The jobs of a sweep are
compared together when it ends, so that a claim on several seeds is compared with their mean.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from irexp.artifact.experiment import Experiment
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import Placed
from irexp.artifact.store import Store
from irexp.evaluation.table import MEAN
from irexp.stage.claim import Claim, Claims, Status, read_claims
from irexp.stage.pivot import Pivoted, pivot
from irexp.stage.recipe import Measure, Measures, measures_of
from irexp.stage.recipe_table import write_table
from irexp.stage.recorded import Cell, cells_of, record, with_means
from irexp.stage.sweep import MEASURED, RECORD, records, write_record
from irexp.types import UserError

log = logging.getLogger(__name__)

#: A claim, how it compares, and the measured value.
_Found = tuple[Claim, Status, float | None]


def check(output: Path, rows: Sequence[Placed] | None, experiment: Experiment, *, artifacts: str) -> None:
    """Compare an experiment's measures with its claims, record them, and write the table of all experiments.

    In a sweep this happens at its end.

    Args:
        output: the job's folder; only a job of a sweep writes there.
        rows: the measures of the experiment and its baselines.
        experiment: an option of conf/experiment.
        artifacts: the folder of all artifacts.

    Raises:
        UserError: if the experiment has no claims, a measured value is too far from its claim, or one is missing that
            should have been measured.
    """
    name = str(experiment.options.get("experiment"))
    claims = read_claims(name)
    measures = measures_of(name, rows or [], experiment, claims.seeds)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        later = {"artifacts": artifacts, "measures": measures.to_dict()}
        (output / MEASURED).write_text(json.dumps(later) + "\n", encoding="utf8")
        log.info("check: at the end of the sweep, over all of its jobs")
        return
    _compare([measures], claims, artifacts)


def check_sweep(folder: Path) -> None:
    """Compare what the jobs of a sweep measured with their claims; jobs that miss them are recorded as failed.

    Jobs that differ only in seed are compared together.

    Args:
        folder: of the sweep.
    """
    groups: dict[str, list[tuple[Path, str, Measures]]] = {}
    recorded = records(folder)
    for job in recorded:
        if not (job / MEASURED).is_file():
            continue
        later = json.loads((job / MEASURED).read_text(encoding="utf8"))
        measures = Measures.from_dict(later["measures"])
        key = json.dumps([measures.name, measures.typed, later["artifacts"]])
        groups.setdefault(key, []).append((job, later["artifacts"], measures))
    for members in groups.values():
        try:
            _compare([measures for _, _, measures in members], read_claims(members[0][2].name), members[0][1])
        except Exception as error:  # the end of the sweep lists it and sets the exit status
            text = f"{type(error).__name__}: {error}"
            log.error("%s", text if isinstance(error, UserError) else traceback.format_exc())
            for job, _, _ in members:
                write_record(job / RECORD, {**recorded[job], "outcome": "failed", "error": text})


def _compare(jobs: Sequence[Measures], claims: Claims, artifacts: str) -> None:
    """Compare the measures of jobs that differ only in seed with the claims, and record those of the recipe.

    Raises:
        UserError: see `check`.
    """
    name, lineage = jobs[0].name, Lineage(Store(Path(artifacts)))
    every = list(dict.fromkeys(one for job in jobs for one in job.found))
    found = pivot([one.placed for one in every], lineage)
    cells = with_means(cells_of(found, lineage, has_columns=claims.has_columns), jobs[0].mean_of)
    results = [_result(claim, cells, jobs) for claim in claims.values]
    recipe = [one for one in found if _is_of_recipe(one, every)]
    own = [cell for cell in cells_of(recipe, lineage, has_columns=claims.has_columns) if cell.row in claims.rows]
    record(name, own, jobs[0].mean_of)
    log.info("check: %s\n%s", name, "\n".join(_line(*result) for result in results))
    try:
        write_table()
    except UserError as error:  # of a recipe, whichever it is, without its README; the values are recorded
        log.warning("check: the table in experiments/README.md is not written: %s", error)
    if len(recipe) < len(found):
        others = sorted({one.result.label for one in found if one not in recipe})
        log.info("check: compared and not recorded, since %s alone measures others: %s", name, ", ".join(others))
    if all(status == "not run" for _, status, _ in results):
        rows = ", ".join(sorted({cell.row for cell in cells})) or "none"
        raise UserError(f"experiment={name}: no claim is on what was measured here, the rows {rows}")
    if failed := [_line(*result) for result in results if result[1] in ("FAIL", "not measured")]:
        raise UserError(f"experiment={name} does not meet its claims:\n" + "\n".join(failed))


def _is_of_recipe(one: Pivoted, every: Sequence[Measure]) -> bool:
    """Whether the recipe as it stands leads to these measures in this row; another row may have the same measures."""
    return any(
        measure.is_recipe and measure.folder == str(one.folder) and measure.row in (None, one.result.label)
        for measure in every
    )


def _result(claim: Claim, cells: Sequence[Cell], jobs: Sequence[Measures]) -> _Found:
    """How a claim compares; one outside of what was run is "not run", unless the recipe cannot measure it at all."""
    cell = next((cell for cell in cells if (cell.row, cell.column) == (claim.row, claim.column)), None)
    if cell is not None and claim.measure in cell.measures:
        return claim, claim.status(cell.measures[claim.measure]), cell.measures[claim.measure]
    places = {(row, column) for row, column in jobs[0].places}
    places |= {(row, MEAN) for row, _ in places if jobs[0].mean_of}
    is_possible = not places or (claim.row, claim.column) in places
    is_left_out = cell is None and is_possible and not any(job.is_whole for job in jobs)
    return claim, "not run" if is_left_out else "not measured", None


def _line(claim: Claim, status: Status, value: float | None) -> str:
    shown = "–" if value is None else f"{value:.4f}"
    expected = f"{claim.value:.4f} ± {claim.tolerance:g}, {claim.source}"
    return f"  {status:12} {claim.row}: {claim.place} {shown}, expected {expected}"
