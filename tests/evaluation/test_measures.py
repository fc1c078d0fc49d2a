"""Measures against naive formulas, and their conventions."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from irexp.config.measure import leaves_out_unjudged, parse_measure
from irexp.evaluation.measures import Measured, evaluate, load_measured, parse_measures, save_measured
from irexp.types import Qrel, ScoredDoc, UserError


def naive_order(run: list[ScoredDoc], query_id: str) -> list[str]:
    """Document ids by score descending, then id, by repeated search for the best."""
    left = [scored for scored in run if scored.query_id == query_id]
    ordered = []
    while left:
        best = left[0]
        for scored in left:
            if scored.score > best.score or (scored.score == best.score and scored.doc_id < best.doc_id):
                best = scored
        ordered.append(best.doc_id)
        left.remove(best)
    return ordered


def naive_ndcg(order: list[str], relevance_of: dict[str, int], k: int) -> float:
    """Gain = relevance, discount = log2(rank + 1), divided by the value of the ideal order."""

    def dcg(gains: list[int]) -> float:
        return sum(max(gain, 0) / math.log2(rank + 1) for rank, gain in enumerate(gains[:k], start=1))

    ideal = dcg(sorted(relevance_of.values(), reverse=True))
    return dcg([relevance_of.get(doc_id, 0) for doc_id in order]) / ideal if ideal > 0 else 0.0


def naive_rr(order: list[str], relevance_of: dict[str, int], k: int, least: int) -> float:
    """One over the rank of the first relevant document within k."""
    for rank, doc_id in enumerate(order[:k], start=1):
        if relevance_of.get(doc_id, 0) >= least:
            return 1 / rank
    return 0.0


def naive_recall(order: list[str], relevance_of: dict[str, int], k: int, least: int) -> float:
    """The share of the relevant documents that are within k."""
    relevant = {doc_id for doc_id, relevance in relevance_of.items() if relevance >= least}
    return len(relevant & set(order[:k])) / len(relevant) if relevant else 0.0


def naive_ap(order: list[str], relevance_of: dict[str, int], least: int) -> float:
    """The mean of the precisions at relevant documents, 0 for those not found."""
    relevant = {doc_id for doc_id, relevance in relevance_of.items() if relevance >= least}
    precisions = [
        len(relevant & set(order[:rank])) / rank for rank, doc_id in enumerate(order, start=1) if doc_id in relevant
    ]
    return sum(precisions) / len(relevant) if relevant else 0.0


def random_case(seed: int) -> tuple[list[ScoredDoc], list[Qrel]]:
    """A shuffled run with many ties and unjudged documents, and graded qrels with a query that the run lacks."""
    generator = random.Random(seed)
    doc_ids = [f"d {i}" for i in range(20)]
    qrels = [Qrel(f"q{q}", doc_id, generator.choice([-1, 0, 0, 1, 2, 3])) for q in range(8) for doc_id in doc_ids[:12]]
    run = [ScoredDoc(f"q{q}", doc_id, float(generator.randint(0, 4))) for q in range(1, 10) for doc_id in doc_ids]
    generator.shuffle(run)
    return [scored for scored in run if generator.random() < 0.7], qrels


def test_values_are_those_of_the_formulas() -> None:
    """nDCG, RR, R and AP equal their loops on random runs with ties, and are 0 for a query that the run lacks."""
    names = ["nDCG@3", "nDCG@10", "nDCG", "RR@3", "RR(rel=2)@10", "RR", "R@5", "R(rel=2)@5", "AP", "AP(rel=2)"]
    measures = parse_measures(names)
    for seed in range(10):
        run, qrels = random_case(seed)
        measured = evaluate(run, qrels, measures)
        assert list(measured.per_query) == names
        assert (measured.missing_queries, measured.unjudged_queries) == (1, 2)
        for query_id in [f"q{q}" for q in range(8)]:
            order = naive_order(run, query_id)
            judged = {qrel.doc_id: qrel.relevance for qrel in qrels if qrel.query_id == query_id}
            expected = [
                naive_ndcg(order, judged, 3),
                naive_ndcg(order, judged, 10),
                naive_ndcg(order, judged, 99),
                naive_rr(order, judged, 3, 1),
                naive_rr(order, judged, 10, 2),
                naive_rr(order, judged, 99, 1),
                naive_recall(order, judged, 5, 1),
                naive_recall(order, judged, 5, 2),
                naive_ap(order, judged, 1),
                naive_ap(order, judged, 2),
            ]
            assert [measured.per_query[name][query_id] for name in names] == pytest.approx(expected, abs=1e-9)


def test_a_missing_query_counts_zero() -> None:
    """Every measure is 0 for a query of the qrels without results, and the mean includes it."""
    names = ["nDCG@10", "nDCG", "RR", "RR@10", "R@10", "AP", "AP@10", "P@2", "Success@1", "Judged@10", "Bpref"]
    names += ["Rprec", "infAP", "SetP", "SetR", "SetF", "SetAP", "IPrec@0.1", "Compat"]
    qrels = [Qrel("1", "a", 1), Qrel("1", "z", 0), Qrel("2", "a", 1)]
    measured = evaluate(
        [ScoredDoc("1", "a", 2.0), ScoredDoc("1", "z", 1.0), ScoredDoc("9", "a", 1.0)], qrels, parse_measures(names)
    )
    assert len(measured.per_query) == len(names)
    for name in names:
        first = measured.per_query[name]["1"]
        assert first > 0
        assert measured.per_query[name] == {"1": first, "2": 0.0}
        assert measured.aggregated[name] == first / 2
    assert (measured.missing_queries, measured.unjudged_queries) == (1, 1)


def test_the_aggregate_is_the_mean_over_the_queries() -> None:
    """Aggregated values are means over all queries of the qrels, and sums for counts."""
    run, qrels = random_case(3)
    measured = evaluate(run, qrels, parse_measures(["nDCG@10", "Judged@5", "NumRelRet"]))
    for name in ("nDCG@10", "Judged@5"):
        values = measured.per_query[name].values()
        assert measured.aggregated[name] == pytest.approx(sum(values) / 8)
    assert measured.aggregated["NumRet(rel=1)"] == sum(measured.per_query["NumRet(rel=1)"].values())


def test_ties_go_to_the_smaller_document_id() -> None:
    """Of two documents with equal scores the smaller id ranks first, for every engine; trec_eval reverses them."""
    names = ["nDCG@1", "RR", "RR@10", "R@1", "AP", "Judged@1", "Compat"]
    run = [ScoredDoc("1", "b", 1.0), ScoredDoc("1", "a", 1.0)]
    for_a = evaluate(run, [Qrel("1", "a", 1)], parse_measures(names))
    for_b = evaluate(run, [Qrel("1", "b", 1)], parse_measures(names))
    assert set(for_a.aggregated.values()) == {1.0}
    assert all(value < 1 for value in for_b.aggregated.values())


def test_scores_that_are_equal_in_32_bits_are_still_ordered() -> None:
    """A difference that trec_eval's 32-bit scores would lose still orders the documents."""
    run = [ScoredDoc("1", "a", 1.0), ScoredDoc("1", "b", 1.0 + 1e-12)]
    measured = evaluate(run, [Qrel("1", "b", 1)], parse_measures(["nDCG@1", "AP"]))
    assert set(measured.aggregated.values()) == {1.0}


def test_the_order_of_lines_does_not_change_values() -> None:
    """Shuffling run and qrels gives the same values for every query."""
    run, qrels = random_case(5)
    measures = parse_measures(["nDCG@10", "RR@10", "AP"])
    first = evaluate(run, qrels, measures)
    random.Random(1).shuffle(run)
    random.Random(2).shuffle(qrels)
    assert evaluate(iter(run), iter(qrels), measures).per_query == first.per_query


@pytest.mark.parametrize(
    ("run", "qrels", "names", "expected"),
    [
        ([("1", "a", 1.0)], [("1", "a", 0)], ["AP"], "no document is relevant"),
        ([("1", "a", 1.0)], [], ["AP"], "has no judgements"),
        ([("x", "a", 1.0)], [("1", "a", 1)], ["AP"], "no query in common.*'x'.*'1'"),
        ([], [("1", "a", 1)], ["AP"], "the run is empty: it has no results of any query"),
        ([("1", "a", 1.0)], [("1", "a", 1)], ["RR(rel=2)@10"], r"RR\(rel=2\)@10 .*largest in the qrels is 1"),
        ([("1", "a", 1.0), ("1", "a", 2.0)], [("1", "a", 1)], ["AP"], "'a' twice"),
        ([("1", "a", math.nan)], [("1", "a", 1)], ["AP"], "NaN"),
        ([("1", "a", 1.0)], [("1", "a", 1), ("1", "a", 2)], ["AP"], "contradict"),
    ],
)
def test_runs_and_qrels_that_cannot_be_measured_are_refused(
    run: list[tuple[str, str, float]], qrels: list[tuple[str, str, int]], names: list[str], expected: str
) -> None:
    """A mistake that would make values 0 or arbitrary is an error that names it."""
    with pytest.raises(UserError, match=expected):
        evaluate([ScoredDoc(*scored) for scored in run], [Qrel(*qrel) for qrel in qrels], parse_measures(names))


def test_the_collections_relevant_grade_applies_to_measures_without_one(caplog: pytest.LogCaptureFixture) -> None:
    """Binary measures without a grade use the collection's and keep their names; other measures do not change."""
    run, qrels = random_case(3)
    names = ["RR@10", "R@5", "AP", "P@5", "Success@3", "Rprec", "Bpref", "SetF"]
    others = ["RR(rel=3)@10", "nDCG@10", "Judged@10", "NumRet"]
    caplog.set_level("INFO")
    measured = evaluate(run, qrels, parse_measures([*names, *others]), relevance=2)
    assert list(measured.per_query) == [*names, *others]
    assert measured.relevance == 2
    assert "grades from 2 count as relevant in RR@10, R@5, AP, P@5, Success@3, Rprec, Bpref, SetF" in caplog.text
    graded = {name: name.split("@")[0] + "(rel=2)" + "@" * ("@" in name) + name.partition("@")[2] for name in names}
    stated = evaluate(run, qrels, parse_measures([*graded.values(), *others]))
    for name in [*names, *others]:
        assert measured.per_query[name] == stated.per_query[graded.get(name, name)]
    assert measured.per_query["RR@10"] != evaluate(run, qrels, parse_measures(["RR@10"])).per_query["RR@10"]


@pytest.mark.parametrize(
    ("name", "relevance", "expected"),
    [
        ("RR(rel=1)@10", 2, r"RR@10 counts from grade 1, which its printed name omits"),
        ("NumRel", 2, "NumRel cannot count from grade 2,"),
        ("RR@10", 0, r"dataset\.test\.relevance=0: the smallest relevant grade is at least 1"),
        ("RR@10", 4, r"RR\(rel=4\)@10 counts grades from 4, but the largest in the qrels is 3"),
    ],
)
def test_a_grade_that_would_mislead_is_refused(name: str, relevance: int, expected: str) -> None:
    """A measure must not have a name that contradicts its grade, or a grade that it cannot count."""
    run, qrels = random_case(3)
    with pytest.raises(UserError, match=expected):
        evaluate(run, qrels, parse_measures([name]), relevance=relevance)


def test_remove_query_drops_the_document_with_the_querys_id(caplog: pytest.LogCaptureFixture) -> None:
    """With remove_query, a run that contains the query itself has the values of one without it."""
    qrels = [Qrel("q", "a", 1), Qrel("r", "b", 1)]
    without = [ScoredDoc("q", "a", 2.0), ScoredDoc("q", "r", 1.0), ScoredDoc("r", "b", 1.0)]
    measures = parse_measures(["nDCG@10", "RR@10", "P@1", "R@1"])
    caplog.set_level("INFO")
    own = [ScoredDoc("q", "q", 9.0), ScoredDoc("r", "r", 9.0)]
    cleaned = evaluate([*own, *without], qrels, measures, remove_query=True)
    assert cleaned == replace(evaluate(without, qrels, measures), remove_query=True)
    assert "2 results have the query's own id" in caplog.text
    assert set(evaluate(without, qrels, measures).aggregated.values()) == {1.0}
    assert evaluate([*own, *without], qrels, measures).aggregated["RR@10"] == 0.5
    assert set(evaluate(own, qrels, measures, remove_query=True).aggregated.values()) == {0.0}


def test_the_digest_of_judgements_depends_on_nothing_else() -> None:
    """Equal judgements in another order have the same digest; another grade, document or query changes it."""
    run, qrels = [ScoredDoc("q", "a", 1.0)], [Qrel("q", "a", 1), Qrel("q", "b", 0), Qrel("r", "a", 2)]
    measures = parse_measures(["RR"])
    measured = evaluate(run, qrels, measures)
    assert measured.highest_grade == 2
    assert evaluate([ScoredDoc("q", "b", 1.0)], qrels[::-1], measures).qrels_digest == measured.qrels_digest
    others = [Qrel("r", "a", 1), Qrel("r", "b", 2), Qrel("s", "a", 2)]
    digests = {evaluate(run, [*qrels[:2], other], measures).qrels_digest for other in others}
    assert len(digests | {measured.qrels_digest}) == 4


def test_a_grade_that_no_one_chose_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With graded judgements the log says which measures count from which grade; with binary ones it does not."""
    run, measures = [ScoredDoc("q", "a", 1.0)], parse_measures(["nDCG@10", "RR@10", "AP(rel=2)"])
    caplog.set_level("INFO")
    evaluate(run, [Qrel("q", "a", 1)], measures[:2])
    assert "count as relevant" not in caplog.text
    evaluate(run, [Qrel("q", "a", 3)], measures)
    assert "grades from 1 count as relevant in RR@10; the highest is 3" in caplog.text
    evaluate(run, [Qrel("q", "a", 3)], measures, relevance=2)
    assert "grades from 2 count as relevant in RR@10; the highest is 3" in caplog.text


def test_a_run_with_other_ids_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Of its documents none is judged, as of ids with and without a prefix; its measures are 0."""
    evaluate([ScoredDoc("q", "17", 1.0), ScoredDoc("r", "9", 1.0)], [Qrel("q", "17", 1)], parse_measures(["RR"]))
    assert "no result of the run is judged" not in caplog.text
    evaluate([ScoredDoc("q", "doc17", 1.0)], [Qrel("q", "17", 1)], parse_measures(["RR"]))
    assert "are the ids of its documents, such as 'doc17', those of the qrels, such as '17'?" in caplog.text


def test_evaluation_needs_less_than_100_bytes_per_line(tmp_path: Path) -> None:
    """Runs of millions of lines fit into memory while they are read and measured."""
    import tracemalloc

    from irexp.evaluation.run_file import read_run

    path = tmp_path / "a.run"
    with path.open("w") as file:
        for query in range(30):
            for rank in range(1000):
                file.write(f"{query}\tQ0\tdocument-{query * 7919 + rank}\t{rank}\t{-rank}\tt\n")
    qrels = [Qrel(str(query), f"document-{query * 7919 + 1}", 1) for query in range(30)]
    measures = parse_measures(["RR@10"])
    evaluate(read_run(path), qrels, measures)  # imports and caches do not count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irexp.evaluation.measures._TOGETHER", 1000)
        tracemalloc.start()
        assert evaluate(read_run(path), qrels, measures).aggregated == {"RR@10": 0.5}
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak / 30_000 < 100


def test_saved_measures_are_loaded_unchanged(tmp_path: Path) -> None:
    """Values and the order of queries survive a round trip, also for ids with spaces."""
    measured = Measured(
        {"AP": {"q 2": 1 / 3, "q1": 0.0}, "RR@10": {"q 2": 1.0, "q1": 0.1}}, {"AP": 1 / 6, "RR@10": 0.55}, 1, 2, 2
    )
    measured = replace(measured, highest_grade=3, remove_query=True, qrels_digest="0123abcd")
    save_measured(tmp_path, measured)
    assert load_measured(tmp_path) == measured
    assert load_measured(tmp_path).query_ids == ("q 2", "q1")
    assert (tmp_path / "per_query.tsv").read_text().splitlines()[1] == "q 2\tRR@10\t1.0"


def test_damaged_measures_are_refused(tmp_path: Path) -> None:
    """Missing, truncated or contradictory files are an error that names the stage to run."""
    with pytest.raises(UserError, match=r"measures\.json.*stage=evaluate"):
        load_measured(tmp_path)
    measured = Measured({"AP": {"1": 0.5, "2": 0.25}, "RR": {"1": 0.5, "2": 0.25}}, {"AP": 0.375, "RR": 0.375}, 0, 0)
    save_measured(tmp_path, measured)
    lines = (tmp_path / "per_query.tsv").read_text().splitlines(keepends=True)
    for damaged in (lines[:-1], lines[:-2], [], [*lines[:-1], "2\tRR"], [*lines[:-1], "2\tP@1\t0.5"]):
        (tmp_path / "per_query.tsv").write_text("".join(damaged))
        with pytest.raises(UserError, match=str(tmp_path)):
            load_measured(tmp_path)
    (tmp_path / "measures.json").write_text("{}")
    with pytest.raises(UserError, match=r"aggregated"):
        load_measured(tmp_path)


def test_an_id_that_breaks_the_file_is_not_saved(tmp_path: Path) -> None:
    """A query id with a tab would shift columns; it is refused before anything is written."""
    measured = Measured({"AP": {"a\tb": 0.5}}, {"AP": 0.5}, 0, 0)
    with pytest.raises(UserError, match="tab"):
        save_measured(tmp_path, measured)
    assert list(tmp_path.iterdir()) == []
    save_measured(tmp_path, replace(measured, per_query={"AP": {"a b": 0.5}}))
    assert json.loads((tmp_path / "measures.json").read_text())["queries"] == 1


@pytest.mark.parametrize(
    ("name", "is_left_out"),
    [("AP", False), ("infAP", False), ("Rprec", False), ("Bpref", True), ("nDCG(judged_only=True)@10", True)],
)
def test_unjudged_documents_are_left_out_of_the_measures_of_which_the_foot_says_so(
    name: str, is_left_out: bool
) -> None:
    """Without them such a measure has the same value, and any other does not."""
    qrels = [Qrel("q", "a", 1), Qrel("q", "b", 0), Qrel("q", "c", 1)]

    def value(*doc_ids: str) -> float:
        run = [ScoredDoc("q", doc_id, float(-rank)) for rank, doc_id in enumerate(doc_ids)]
        return evaluate(run, qrels, parse_measures([name])).aggregated[name]

    assert leaves_out_unjudged(parse_measure(name)) == is_left_out
    with_unjudged, judged = value("x", "y", "a", "b", "c"), value("a", "b", "c")
    assert (with_unjudged == judged) == is_left_out
