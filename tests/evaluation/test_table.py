"""The table: its cells and its formats."""

import csv
import io
import re
import statistics
from dataclasses import replace

import pytest

from irexp.evaluation.comparison import Significance
from irexp.evaluation.measures import Measured
from irexp.evaluation.significance import paired_t_test, randomisation_test, wilcoxon_test
from irexp.evaluation.table import Result, Table, make_table
from irexp.types import UserError
from tests.evaluation.results import measured


def markers(table: Table) -> list[list[str]]:
    """The markers of all cells."""
    return [[cell.marker for cell in row] for row in table.cells]


def test_significance_is_marked_against_the_baseline(rows: list[Result]) -> None:
    """Better and worse runs are marked as such; the baseline and its copy are not marked."""
    for test in ("t", "wilcoxon", "randomisation"):
        table = make_table(rows, ["RR@10", "AP"], test=Significance(test))
        assert markers(table) == [["", ""], ["†", "†"], ["‡", "‡"], ["", ""]]
        assert [cell.p_value for cell in table.cells[0]] == [None, None]
        assert table.cells[3][0].p_value == 1.0


def test_rows_with_other_judgements_are_refused(rows: list[Result]) -> None:
    """Equal query ids are not enough: differences between judgements would be marked as differences between runs."""
    judged = [replace(row, measured=replace(row.measured, qrels_digest="0a")) for row in rows]
    other = replace(rows[3], measured=replace(rows[3].measured, qrels_digest="0b"))
    assert len(make_table([*judged[:3], rows[3]], ["AP"]).rows) == 4  # an earlier version did not save the digest
    with pytest.raises(UserError, match="'BM25' and 'again' differ in the judgements, by digest: 0a and 0b"):
        make_table([*judged[:3], other], ["AP"])


def test_markers_depend_on_the_baseline(rows: list[Result]) -> None:
    """With the best run as the baseline all others are marked as worse."""
    table = make_table(rows, ["AP"], against={row.label: rows[1].label for row in rows})
    assert markers(table) == [["‡"], [""], ["‡"], ["‡"]]
    assert "significantly worse than better & |best|: two-sided" in table.footer


def test_p_values_are_corrected_over_the_comparisons_of_a_measure() -> None:
    """With two comparisons Holm doubles the smaller p only, Bonferroni both; each measure is corrected separately."""
    rows = [Result(str(seed), measured(offset=0.01 * seed, seed=seed)) for seed in range(3)]
    values = [list(row.measured.per_query["RR@10"].values()) for row in rows]
    raw = [paired_t_test(values[1], values[0]), paired_t_test(values[2], values[0])]
    assert max(raw) < 0.5

    def table(correction: str) -> Table:
        return make_table(rows, ["RR@10", "AP"], test=Significance(correction=correction))

    def p_values(correction: str) -> list[float | None]:
        return [row[0].p_value for row in table(correction).cells[1:]]

    assert p_values("none") == raw
    assert p_values("bonferroni") == [2 * p for p in raw]
    assert p_values("holm") == [2 * p if p == min(raw) else max(p, 2 * min(raw)) for p in raw]


def test_alpha_decides_the_marker() -> None:
    """A difference is marked if and only if its p-value is below alpha."""
    rows = [Result("a", measured(offset=0, seed=0)), Result("b", measured(offset=0.02, seed=1))]
    p_value = make_table(rows, ["AP"]).cells[1][0].p_value
    assert p_value is not None and 0 < p_value < 0.5
    assert markers(make_table(rows, ["AP"], test=Significance(alpha=p_value * 1.01)))[1] == ["†"]
    assert markers(make_table(rows, ["AP"], test=Significance(alpha=p_value * 0.99)))[1] == [""]


def test_queries_are_paired_by_id() -> None:
    """The order of queries within a row's measures does not matter."""
    first, second = measured(offset=0, seed=0), measured(offset=0.02, seed=1)
    turned = Measured({m: dict(reversed(v.items())) for m, v in second.per_query.items()}, second.aggregated, 0, 0)
    assert (
        make_table([Result("a", first), Result("b", turned)], ["AP"]).cells
        == make_table([Result("a", first), Result("b", second)], ["AP"]).cells
    )


def test_the_table_passes_its_permutations_to_the_randomisation_test() -> None:
    """p-values of the table equal those of the test with the same number of sign flips."""
    rows = [Result("a", measured(offset=0, seed=0)), Result("b", measured(offset=0.02, seed=1))]
    a, b = (list(row.measured.per_query["AP"].values()) for row in rows)
    table = make_table(rows, ["AP"], test=Significance("randomisation", permutations=50))
    assert table.cells[1][0].p_value == randomisation_test(b, a, permutations=50)


def test_too_few_permutations_cause_a_warning(rows: list[Result], caplog: pytest.LogCaptureFixture) -> None:
    """For three comparisons, the smallest corrected p with 50 permutations is 3 / 51 > 0.05, so none is significant."""
    make_table(rows, ["AP"], test=Significance("randomisation", permutations=100))
    assert caplog.text == ""
    make_table(rows, ["AP"], test=Significance("randomisation", permutations=50))
    assert "too few" in caplog.text


def test_enough_permutations_of_a_column_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """With 50 of them a column's single comparison can be significant, though others have three."""
    rows = [Result(str(seed), measured(offset=0.01 * seed, seed=seed)) for seed in range(4)]
    others = [Result(row.label, row.measured, column="other") for row in rows[:2]]
    make_table([*rows, *others], ["AP"], test=Significance("randomisation", permutations=50))
    assert caplog.text == ""


def test_the_best_values_of_a_column_are_bold(rows: list[Result]) -> None:
    """All values that equal the largest with four decimals are best; the value of a single row is not."""
    table = make_table(rows, ["RR@10", "AP"])
    assert [[cell.is_best for cell in row] for row in table.cells] == [
        [False] * 2,
        [True] * 2,
        [False] * 2,
        [False] * 2,
    ]
    nearly = [Result(str(x), Measured({"AP": {"1": x}}, {"AP": x}, 0, 0)) for x in (0.50001, 0.50002, 0.4)]
    assert [row[0].is_best for row in make_table(nearly, ["AP"]).cells] == [True, True, False]
    assert not make_table(rows[:1], ["AP"]).cells[0][0].is_best


def test_markdown_is_aligned_and_escaped(rows: list[Result]) -> None:
    """All lines have the same width, digits are aligned, and bars in a label are escaped."""
    text = make_table(rows, ["RR@10", "AP"]).to_markdown()
    lines = text.splitlines()
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[6] == ""
    assert len({tuple(m.start() for m in re.finditer(r"\d\.\d{4}", line)) for line in lines[2:6]}) == 1
    assert re.match(r"\| better & \\\|best\\\| \| \*\*0\.\d{4}\*\*† \| ", lines[3])
    assert "worse_run" in lines[4] and "‡ |" in lines[4]


def test_latex_is_escaped(rows: list[Result]) -> None:
    """LaTeX's special characters are escaped, the best value is bold, and rules are those of booktabs."""
    rows[3] = Result("a\\b~^{$}#%_<\n>", rows[3].measured)
    text = make_table(rows, ["RR@10", "AP"]).to_latex()
    assert re.search(r"^better \\& \\textbar\{\}best\\textbar\{\} & \\textbf\{0\.\d{4}\}\$\^\\dagger\$ & ", text, re.M)
    assert re.search(r"^worse\\_run & 0\.\d{4}\$\^\\ddagger\$ & .* \\\\$", text, re.M)
    assert r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}\{\$\}\#\%\_\textless{} \textgreater{} & 0." in text
    assert all(text.count(rule) == 1 for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_csv_is_for_programs(rows: list[Result]) -> None:
    """CSV has plain numbers, corrected p-values (none for the baseline) and the artifacts of every row."""
    records = list(csv.DictReader(io.StringIO(make_table(rows, ["RR@10", "AP"]).to_csv())))
    of = [f"{of}({name})" for name in ("RR@10", "AP") for of in ("p", "d", "wins", "ties", "losses")]
    assert list(records[0]) == ["label", "RR@10", *of[:5], "AP", *of[5:], "run", "index"]
    assert [record["label"] for record in records] == [row.label for row in rows]
    for record, row in zip(records, rows, strict=True):
        assert float(record["AP"]) == pytest.approx(row.measured.aggregated["AP"], abs=5e-5)
    assert records[0]["p(AP)"] == "" and 0 < float(records[1]["p(AP)"]) < 1e-6
    assert [record["index"] for record in records] == ["", "index/b", "", ""]


def test_measures_may_have_another_spelling(rows: list[Result]) -> None:
    """MRR@10 is another name of RR@10 and finds its values."""
    assert [column.title for column in make_table(rows, ["MRR@10"]).columns] == ["RR@10"]


def test_rows_with_different_queries_are_refused(rows: list[Result]) -> None:
    """Their means are not comparable; the message names both rows and a query that only one of them has."""
    rows.append(Result("short", measured(offset=0, seed=0, queries=39)))
    with pytest.raises(UserError, match=r"'BM25' and 'short'.*: 1 are in only one.*'q39'"):
        make_table(rows, ["AP"])


def test_a_row_without_a_measure_is_named(rows: list[Result]) -> None:
    """The message names the row, the missing measure and those that the row has."""
    with pytest.raises(UserError, match=r"'BM25' was not evaluated with nDCG@10, only with RR@10, AP"):
        make_table(rows, ["AP", "nDCG@10"])


def test_wrong_settings_are_refused(rows: list[Result]) -> None:
    """A wrong setting is an error that names the choices and the nearest one."""
    with pytest.raises(UserError, match=r"significance: 'randomization' .*did you mean 'randomisation'"):
        make_table(rows, ["AP"], test=Significance("randomization"))
    with pytest.raises(UserError, match=r"correction: 'bon' is not one of holm, bonferroni, none"):
        make_table(rows, ["AP"], test=Significance(correction="bon"))
    for against in ({"again": "BM"}, {"agai": "BM25"}):
        with pytest.raises(UserError, match=r"against: there is no row '(BM|agai)'"):
            make_table(rows, ["AP"], against=against)
    for alpha in (0.0, 1.0, 5.0):
        with pytest.raises(UserError, match="alpha"):
            make_table(rows, ["AP"], test=Significance(alpha=alpha))
    with pytest.raises(UserError, match="permutations"):
        make_table(rows, ["AP"], test=Significance(permutations=0))
    with pytest.raises(UserError, match="at least one row"):
        make_table([], ["AP"])
    with pytest.raises(UserError, match="two rows have the label 'again'"):
        make_table([*rows, rows[3]], ["AP"])


def test_columns_are_collections_by_measures(several: list[Result]) -> None:
    """Each collection has its own best values, tests and queries; what was not measured is a dash."""
    table = make_table(several, ["RR@10", "AP"])
    assert [column.title for column in table.columns] == ["A RR@10", "A AP", "B_1 RR@10", "B_1 AP"]
    assert [row.label for row in table.rows] == ["BM25", "ours", "other"]
    assert [cell.text for cell in table.cells[2][2:]] == ["–", "–"]
    best = [[row for row, cells in enumerate(table.cells) if cells[column].is_best] for column in range(4)]
    assert best == [[2], [2], [0], [0]]
    assert [[cell.marker for cell in row] for row in table.cells] == [
        [""] * 4,
        ["†", "†", "‡", "‡"],
        ["†", "†", "", ""],
    ]
    assert "Queries: A 40, B_1 20, all of the qrels" in table.footer and "–: not measured." in table.footer
    assert "over the comparisons of each column (at most 2)" in table.footer
    latex = table.to_latex()
    assert r"& \multicolumn{2}{c}{A} & \multicolumn{2}{c}{B\_1} \\" in latex
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}" in latex


def test_seeds_are_averaged(several: list[Result]) -> None:
    """The value is the mean over the seeds, with its standard deviation; tests take each query's mean."""
    table = make_table(several, ["AP"])
    found = [result.measured for result in several if result.label == "ours" and result.column == "A"]
    values = [measured.aggregated["AP"] for measured in found]
    cell = table.cells[1][0]
    assert cell.value == pytest.approx(statistics.fmean(values)) and cell.deviation == pytest.approx(
        statistics.stdev(values)
    )
    assert cell.text == f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"
    per_query = [statistics.fmean(one.per_query["AP"][query] for one in found) for query in found[0].query_ids]
    p_value = paired_t_test(per_query, list(several[0].measured.per_query["AP"].values()))
    assert cell.p_value == pytest.approx(min(1.0, 2 * p_value))
    assert "±: mean and standard deviation of 3 seeds" in table.footer
    (record,) = [one for one in csv.DictReader(io.StringIO(table.to_csv())) if one["label"] == "ours"]
    assert float(record["sd(A AP)"]) == pytest.approx(statistics.stdev(values), abs=5e-5)


def test_the_mean_over_collections_is_a_last_column(several: list[Result]) -> None:
    """Rows that were not measured on all collections have none; the deviation is that of the seeds' means."""
    table = make_table(several, ["AP"], mean=True)
    assert [column.title for column in table.columns] == ["A AP", "B_1 AP", "mean AP"]
    bm25, ours, other = (row[2] for row in table.cells)
    assert bm25.value == pytest.approx(statistics.fmean(several[n].measured.aggregated["AP"] for n in (0, 1)))
    means = [
        statistics.fmean(one.measured.aggregated["AP"] for one in several if one.label == "ours" and one.seed == seed)
        for seed in range(3)
    ]
    assert ours.value == pytest.approx(statistics.fmean(means)) and ours.deviation == pytest.approx(
        statistics.stdev(means)
    )
    assert (other.value, bm25.marker, bm25.is_best != ours.is_best) == (None, "", True)


def test_a_row_is_compared_with_the_row_that_it_names(rows: list[Result]) -> None:
    """As in a table of pairs; the others are compared with the first row, and every comparison can be listed."""
    table = make_table(rows, ["AP"], against={"worse_run": "again"})
    assert [cell.comparison.against if cell.comparison else None for (cell,) in table.cells] == [
        *(None, "BM25"),
        *("again", "BM25"),
    ]
    assert "(better & |best| with BM25, worse_run with again, again with BM25)" in table.footer
    found = table.cells[2][0].comparison
    assert found is not None and found.wins + found.ties + found.losses == 40
    d = [rows[2].measured.per_query["AP"][q] - rows[3].measured.per_query["AP"][q] for q in rows[2].measured.query_ids]
    assert found.difference == pytest.approx(statistics.fmean(d))
    assert found.effect_size == pytest.approx(statistics.fmean(d) / statistics.stdev(d))
    assert found.losses == sum(value < 0 for value in d)
    same = table.cells[3][0].comparison
    assert same is not None and (same.effect_size, same.ties, same.p_value) == (0.0, 40, 1.0)
    lines = table.comparisons().splitlines()
    names = [name.strip() for name in lines[0].strip("|").split("|")]
    assert names == ["", "than", "column", "difference", "p", "effect size", "wins", "ties", "losses"]
    assert len(lines) == 7
    assert "worse\\_run" not in lines[3] and "| worse_run " in lines[3]


def test_wilcoxons_test_equals_its_definition() -> None:
    """The exact p-value of five differences, computed by hand: all 2^5 signs, of which two are as extreme."""
    a, b = [0.9, 0.8, 0.7, 0.6, 0.5], [0.8, 0.6, 0.4, 0.2, 0.0]
    assert wilcoxon_test(a, b) == pytest.approx(2 / 32)
    assert wilcoxon_test(a, a) == 1.0


def test_each_collection_can_have_its_own_measures(several: list[Result]) -> None:
    """As collections of different conventions do; the mean is over what all have."""
    only = [replace(r, measured=replace(r.measured, aggregated={"AP": r.measured.aggregated["AP"]})) for r in several]
    mixed = [one if one.column == "B_1" else result for one, result in zip(only, several, strict=True)]
    table = make_table(mixed, mean=True)
    assert [column.title for column in table.columns] == ["A RR@10", "A AP", "B_1 AP", "mean AP"]
    other = replace(several[2], measured=replace(several[2].measured, aggregated={"nDCG": 0.5}))
    with pytest.raises(UserError, match="results on A have no measure in common"):
        make_table([several[0], other])
