"""Evaluate runs against judgements, and compare the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from irexp.artifact.content import existing_file
from irexp.dataset.collection import Topics
from irexp.dataset.in_memory import Judgements, TextTopics
from irexp.dataset.sources import open_topics
from irexp.evaluation.comparison import Significance
from irexp.evaluation.measures import Measured, parse_measures
from irexp.evaluation.measures import evaluate as evaluate_run
from irexp.evaluation.table import Result, Table, make_table
from irexp.pipeline.component import component
from irexp.pipeline.run_source import RunSource, lines_of_run
from irexp.types import UserError


def evaluate(run: RunSource, topics: Topics | Judgements, measures: Sequence[str] | None = None) -> Measured:
    """Evaluate a run over all judged queries; a query without results counts 0.

    Args:
        run: what `search` or `re_rank` returned, or a run file.
        topics: topics, a folder in BEIR's layout or an id of ir_datasets; or the relevant documents per query,
            `{"q1": ["d3"]}`, with grades `{"q1": {"d3": 2}}`, a list of judgements, or a file of them.
        measures: names as in ir_measures, such as "nDCG@10"; None for `component("evaluation").measures`.

    Raises:
        UserError: if there are no judgements, the run answers none of the queries, or a measure is unknown.
    """
    opened = _judged(topics)
    return evaluate_run(
        lines_of_run(run),
        opened.qrels(),
        parse_measures(component("evaluation").measures if measures is None else measures),
        relevance=opened.relevance,
        remove_query=opened.remove_query,
        run_name=str(run) if isinstance(run, str | Path) else "the run",
    )


def compare(
    measured: Mapping[str, Measured],
    *,
    measures: Sequence[str] | None = None,
    baseline: str | None = None,
    significance: str | None = None,
    correction: str | None = None,
    alpha: float | None = None,
) -> Table:
    """Make a table of results of `evaluate`, with significance tests against a baseline.

    Args:
        measured: the results, by the names of their rows.
        measures: the columns; None for all measures of the first row.
        baseline: the row that the others are compared with; None for the first.
        significance: "t", "wilcoxon" or "randomisation"; None, here and below, for the value of
            `component("evaluation")`.
        correction: for multiple comparisons: "holm", "bonferroni" or "none".
        alpha: the corrected p-value below which a difference is marked.

    Returns:
        The table; notebooks render it, `print` shows Markdown, `to_latex` and `to_csv` return LaTeX and CSV.

    Raises:
        UserError: if there is no row, a name or a result is something else, or rows differ in queries or measures.
    """
    _check_rows(measured)
    if not measured:
        raise UserError("there is nothing to compare: a table needs at least one row")
    names = list(measured)
    if baseline is not None and baseline not in measured:
        raise UserError(f"baseline={baseline!r} is not a row; the rows are {', '.join(names)}")
    settings = component("evaluation")
    reference = names[0] if baseline is None else baseline
    test = Significance(
        settings.significance if significance is None else significance,
        settings.alpha if alpha is None else alpha,
        settings.correction if correction is None else correction,
        settings.permutations,
    )
    return make_table(
        [Result(name, found) for name, found in measured.items()],
        list(measured[names[0]].aggregated) if measures is None else measures,
        test=test,
        against=dict.fromkeys(names, reference),
    )


def _check_rows(measured: object) -> None:
    """Refuse what is not results by the names of their rows."""
    example = 'write {"bm25": evaluate(…), "ours": evaluate(…)}'
    if not isinstance(measured, Mapping):
        raise UserError(f"compare needs a dictionary of results by the names of their rows; {example}")
    for name, found in measured.items():
        if not isinstance(name, str):
            raise UserError(f"the name of a row must be a text, not {name!r}; {example}")
        if not isinstance(found, Measured):
            raise UserError(f"row {name!r} is not a result of evaluate, but of type {type(found).__name__}; {example}")


def _judged(topics: Topics | Judgements) -> Topics:
    """Open topics, or wrap bare judgements as topics."""
    if isinstance(topics, Topics):
        return topics
    if isinstance(topics, str | Path):
        file = existing_file(Path(topics).expanduser())
        if file is None or not file.is_file():
            return open_topics(topics)
    return TextTopics({"all": "judgements without their queries"}, topics)
