"""The stage that makes the table of an experiment, of a sweep, or of all measures in the store.

Rows are runs, columns are collections by measures (`irexp.stage.pivot`); the artifacts of each row are listed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import Placed
from irexp.artifact.store import Store
from irexp.config.schema import Evaluation, Machine
from irexp.evaluation.comparison import Significance
from irexp.evaluation.measures import parse_measures
from irexp.evaluation.table import Table, make_table
from irexp.report_page.study import Study
from irexp.stage.conventions import conventions
from irexp.stage.costs import report_costs, search_costs
from irexp.stage.page import PAGE, write_page
from irexp.stage.pivot import Pivoted, by_run, measured, pivot
from irexp.types import UserError

log = logging.getLogger(__name__)

#: What only some tables have beside them: removed where it is of an earlier table in the same folder.
_SOMETIMES = ("table.comparisons.md", "table.*speed.md", "table.*speed.png", PAGE)


def report(
    output: Path,
    rows: Sequence[Placed] | None,
    *,
    artifacts: str,
    evaluation: Evaluation,
    against: Mapping[str, str] | None = None,
    mean: bool = False,
    html: bool = False,
    machine: Machine | None = None,
) -> Table:
    """Write a table into `output` as md, tex and csv, its comparisons as md, its artifacts as json, and log it.

    Args:
        output: the job's output folder.
        rows: the measures to compare; None for all in the store.
        artifacts: the folder of all artifacts.
        evaluation: how differences are tested; for all in the store, also the measures, otherwise those of each row.
        against: the row that a row is compared with, by label; the others are compared with the first row.
        mean: whether the last columns are the mean over the collections.
        html: whether to also write report.html, a page with charts, queries, lineage and commands.
        machine: this job's; of costs that were measured on several, its own are shown. None to show all.

    Returns:
        The table.
    """
    store = Store(Path(artifacts))
    placed = list(rows) if rows is not None else _complete(_everything(store), evaluation, store)
    if not placed:
        raise UserError("nothing was measured: the experiment has no judged queries")
    measures = None if rows is not None else evaluation.measures
    table, pivoted = tabulate(
        placed,
        store,
        output,
        measures=measures,
        evaluation=evaluation,
        against=against or {},
        mean=mean,
        html=html,
        machine=machine,
    )
    for collection in dict.fromkeys(one.result.column for one in pivoted):
        members = [one for one in pivoted if one.result.column == collection]
        stem = "table" if len(members) == len(pivoted) else f"table.{collection}"
        report_costs(output, stem, search_costs(members, store, machine), table.first_measure(collection))
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        log.info("report: %s; the table of all jobs is made at the end of the sweep", output / "table.md")
    else:
        log_table(table, output, artifacts)
    return table


def tabulate(
    placed: Sequence[Placed],
    store: Store,
    output: Path,
    *,
    measures: Sequence[str] | None = None,
    evaluation: Evaluation,
    against: Mapping[str, str],
    mean: bool,
    html: bool,
    study: Study | None = None,
    machine: Machine | None = None,
    swept: Collection[str] = (),
) -> tuple[Table, list[Pivoted]]:
    """Write the table of some measures, and its page; returns the table and its results. Arguments as of `report`.

    Args:
        placed: the measures.
        store: where they are.
        output: the folder that is written to.
        measures: the columns of each collection; None for all that its results have in common.
        evaluation: how differences are tested.
        against: see `report`.
        mean: see `report`.
        html: see `report`.
        study: the search that a sweep made, if it made one, for its page.
        machine: see `report`.
        swept: the keys that differ between the jobs of a sweep, which labels name.
    """
    lineage = Lineage(store)
    pivoted = pivot(placed, lineage, swept=swept)
    notes = conventions({one.folder: one.result for one in pivoted}, lineage)
    table = _table(pivoted, measures, evaluation, against, mean=mean, notes=notes)
    for path in [path for pattern in _SOMETIMES for path in output.glob(pattern)]:
        path.unlink()
    _write_table(table, output)
    if html:
        write_page(table, pivoted, lineage, output, study=study, machine=machine)
    return table, pivoted


def _table(
    pivoted: Sequence[Pivoted],
    measures: Sequence[str] | None,
    evaluation: Evaluation,
    against: Mapping[str, str],
    *,
    mean: bool,
    notes: Sequence[str],
) -> Table:
    return make_table(
        [one.result for one in pivoted],
        measures,
        test=Significance(evaluation.significance, evaluation.alpha, evaluation.correction, evaluation.permutations),
        against=against,
        mean=mean,
        notes=notes,
    )


def _write_table(table: Table, folder: Path) -> None:
    """Write table.{md,tex,csv,json} and table.comparisons.md."""
    rows_of = [{"row": row.label, "artifacts": " ".join(row.artifacts.values()).split()} for row in table.rows]
    texts = {"md": table.to_markdown(), "tex": table.to_latex(), "csv": table.to_csv(), "json": json.dumps(rows_of)}
    texts |= {"comparisons.md": table.comparisons()} if len(table.rows) > 1 else {}
    for suffix, text in texts.items():
        (folder / f"table.{suffix}").write_text(text, encoding="utf8")


def log_table(table: Table, folder: Path, artifacts: str) -> None:
    """Log a table with the artifacts of its rows."""
    artifacts_of = "\n".join(f"  {row.label}: {' '.join(row.artifacts.values())}" for row in table.rows)
    names = ", ".join(table.collections)
    log.info("%s\n\n%s\nartifacts, below %s:\n%s\n", names, table.to_markdown(), artifacts, artifacts_of)
    log.info("report: %s", folder / "table.md")


def _everything(store: Store) -> list[Placed]:
    """All measures: those of BM25 first, then by age, oldest first."""
    found = store.manifests("measures", is_opened=True)
    finished = {folder: manifest["provenance"]["finished"] for folder, manifest in found}
    ordered = sorted(finished, key=lambda folder: (folder.name.partition(".")[0] != "bm25", finished[folder]))
    return [Placed(folder) for folder in ordered]


def _complete(placed: Sequence[Placed], evaluation: Evaluation, store: Store) -> list[Placed]:
    """The measures that have every requested column.

    Raises:
        UserError: if there are none.
    """
    if not placed:
        raise UserError(f"nothing was measured yet in {store.root.resolve()}; run stage=all, or stage=evaluate")
    wanted = {str(measure) for measure in parse_measures(evaluation.measures)}
    runs = by_run(placed)
    complete = [same for same in runs if wanted <= measured(same).aggregated.keys()]
    if left_out := len(runs) - len(complete):
        log.warning("%d results lack one of %s and are left out", left_out, ", ".join(sorted(wanted)))
    if not complete:
        raise UserError(
            f"none of the {len(runs)} results in {store.root.resolve()} has all of "
            f"{', '.join(evaluation.measures)}; choose the evaluation that they were made with"
        )
    return [one for same in complete for one in same]
