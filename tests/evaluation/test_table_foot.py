"""The footer of a table: what its markers mean, and which conventions its numbers follow."""

from dataclasses import replace

import pytest

from irexp.evaluation.comparison import Significance
from irexp.evaluation.measures import Measured
from irexp.evaluation.table import Result, make_table
from irexp.types import UserError


def with_measures(result: Result, *names: str) -> Result:
    """The same result under other names of measures."""
    per_query = result.measured.per_query["AP"]
    measured = replace(result.measured, per_query=dict.fromkeys(names, per_query), aggregated=dict.fromkeys(names, 0.5))
    return replace(result, measured=measured)


def test_the_footer_names_the_smallest_relevant_grade(rows: list[Result]) -> None:
    """A collection's grade is in the footer; rows with different grades are not comparable and are refused."""
    assert "count grades from" not in make_table(rows, ["AP"]).footer
    graded = [replace(row, measured=replace(row.measured, relevance=2)) for row in rows]
    assert "do not name a grade count grades from 2." in make_table(graded, ["AP"]).footer
    with pytest.raises(UserError, match="differ in the smallest relevant grade: 2 and 1"):
        make_table([graded[0], *rows[1:]], ["AP"])
    first = replace(rows[0], measured=replace(rows[0].measured, relevance=1))
    assert len(make_table([first, *rows[1:]], ["AP"]).rows) == 4  # 1 is what no grade means


def test_the_footer_says_how_grades_count_that_no_one_chose(rows: list[Result]) -> None:
    """With graded judgements grade 1 is said to count, unless every measure names its grade or counts all grades."""
    graded = [replace(row, measured=replace(row.measured, highest_grade=3)) for row in rows]
    assert "do not name a grade count grades from 1 (the highest is 3)." in make_table(graded, ["AP"]).footer
    values = {name: {"q": 0.5} for name in ("nDCG@10", "AP(rel=2)")}
    named = Result("named", Measured(values, dict.fromkeys(values, 0.5), 0, 0, highest_grade=3))
    assert "count grades" not in make_table([named], list(values)).footer
    binary = [replace(row, measured=replace(row.measured, highest_grade=1)) for row in rows]
    assert "count grades" not in make_table(binary, ["AP"]).footer


def test_the_footer_says_that_queries_are_not_their_own_results(rows: list[Result]) -> None:
    """The foot says so if and only if such results were dropped, and rows that differ in it are refused."""
    kept = [replace(row, measured=replace(row.measured, remove_query=False)) for row in rows]
    dropped = [replace(row, measured=replace(row.measured, remove_query=True)) for row in rows]
    words = "The document with the query's own id is not a result."
    assert words in make_table(dropped, ["AP"]).footer
    assert words not in make_table(kept, ["AP"]).footer
    with pytest.raises(UserError, match=r"'BM25' and 'worse_run' differ in whether the document .* True and False"):
        make_table([*dropped[:2], *kept[2:]], ["AP"])


def test_the_footer_says_how_the_table_was_made(rows: list[Result]) -> None:
    """Markdown and LaTeX name test, correction, level, baseline, number of queries and tie rule."""
    table = make_table(rows, ["AP"], test=Significance("randomisation", alpha=0.01, permutations=999))
    for part in (
        "randomisation test (999",
        "Holm correction over the 3",
        "alpha = 0.01",
        "worse than BM25",
        "40 queries",
    ):
        assert part in table.to_markdown()
        assert part in table.to_latex()
    assert "score descending, then document id" in table.footer
    assert "no correction" in make_table(rows, ["AP"], test=Significance(correction="none")).footer
    assert "significant" not in make_table(rows[:1], ["AP"]).footer
    lacking = Result("lacking", Measured({"AP": {"1": 0.0}}, {"AP": 0.0}, 1, 0))
    assert "Without results in lacking: 1." in make_table([lacking], ["AP"]).footer


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["AP"], "Unjudged documents count as not relevant. Ties"),
        (["AP", "Bpref"], "count as not relevant, except in Bpref, where they are left out. Ties"),
        (["infAP", "Bpref", "RR(judged_only=True)"], "except in Bpref and RR(judged_only=True), where they are left"),
        (["AP(judged_only=True)", "Bpref"], "Unjudged documents are left out. Ties"),
        (["infAP"], "not relevant. infAP estimates how many documents with a grade below 0 are relevant. Ties"),
    ],
)
def test_the_footer_says_which_measures_leave_out_unjudged_documents(
    rows: list[Result], names: list[str], words: str
) -> None:
    """Measures that are computed of judged documents alone are named."""
    assert words in make_table([with_measures(row, *names) for row in rows], names).footer


def test_the_footer_names_measures_that_only_some_rows_have(several: list[Result]) -> None:
    """They are not in the table, per collection; of measures that were asked for nothing is left out."""
    bm25, b_1, *others = several
    table = make_table([with_measures(bm25, "AP", "R@9"), b_1, *others])
    assert [column.title for column in table.columns] == ["A AP", "B_1 RR@10", "B_1 AP"]
    assert "Not shown, since only some rows have it on A: R@9, RR@10." in table.footer
    assert "Not shown" not in make_table(several, ["AP"]).footer and "Not shown" not in make_table(several).footer
    one = make_table([with_measures(bm25, "AP", "R@9"), with_measures(others[0], "AP")])
    assert "Not shown, since only some rows have it: R@9." in one.footer


def test_the_footer_says_that_means_are_not_tested(several: list[Result]) -> None:
    """Their queries are of different collections, so the last columns have no markers."""
    table = make_table(several, ["AP"], mean=True)
    assert {row[-1].marker for row in table.cells} == {""}
    assert "Means over the collections are not tested." in table.footer
    assert "Means" not in make_table(several, ["AP"]).footer
    assert "Means" not in make_table([one for one in several if one.column == "A"], ["AP"], mean=True).footer


def test_the_footer_counts_the_seeds_of_each_column(several: list[Result]) -> None:
    """Where they differ, no column has the most of another one."""
    fewer = [one for one in several if (one.column, one.seed) != ("B_1", 2)]
    assert "deviation of several seeds (ours 3 on A and 2 on B_1); tests" in make_table(fewer, ["AP"]).footer
    more = [*several, replace(several[-1], seed=1)]
    assert "deviation of several seeds (ours 3, other 2); tests" in make_table(more, ["AP"]).footer


def test_the_footer_says_over_how_many_comparisons_a_column_is_corrected(several: list[Result]) -> None:
    """A column lacks the comparisons of rows that were not measured on it; where all have as many, it is one number."""
    assert "Holm correction over the comparisons of each column (at most 2), alpha" in make_table(several).footer
    whole = [one for one in several if one.label != "other"]
    assert "Holm correction over the 1 comparison of each column, alpha" in make_table(whole).footer
    on_a = [one for one in several if one.column == "A"]
    assert "Holm correction over the 2 comparisons of each measure, alpha" in make_table(on_a).footer
    apart = [several[0], replace(several[1], label="other")]
    assert "significantly" not in make_table(apart).footer


def test_the_footer_says_once_how_many_queries_several_seeds_do_not_answer(rows: list[Result]) -> None:
    """Seeds that leave different numbers unanswered are still told apart."""
    lacking = [
        replace(rows[1], label="ours", seed=seed, measured=replace(rows[1].measured, missing_queries=missing))
        for seed, missing in enumerate([2, 2, 3])
    ]
    footer = make_table([rows[0], *lacking]).footer
    assert footer.count("Without results in ours: 2.") == 1 and footer.count("Without results in ours: 3.") == 1
