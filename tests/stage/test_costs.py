"""The table of costs: seeds are averaged, and what was measured on other machines is not mixed in."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from irexp.artifact import identity
from irexp.config.schema import Evaluation, Machine
from irexp.evaluation.table import Table
from irexp.stage.report import report
from tests.chains import STAGES, Compose, run, settings, write_collection


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A collection whose relevant documents are not the obvious ones, so that measures depend on the seed."""
    texts = ["make cups", "list trees", "copy song", "delete cup", "tree make"]
    queries = {f"q{number}": text for number, text in enumerate(texts)}
    judged = "".join(f"q{number}\td{document}\t1\n" for number, document in enumerate([5, 9, 2, 8, 10]))
    return write_collection(tmp_path / "toys", queries, {"test": judged})


def table_of(tmp_path: Path, machine: Machine | None = None) -> tuple[Table, list[dict[str, str]], str]:
    """The table of all measures, the lines of its table of costs by their columns, and the note below them."""
    table = report(
        tmp_path,
        None,
        artifacts=str(tmp_path / "artifacts"),
        evaluation=Evaluation(["nDCG@10"], "t", 100, "holm", 0.05),
        html=True,
        machine=machine,
    )
    text, _, note = (tmp_path / "table.speed.md").read_text().partition("\n\n")
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return table, [dict(zip(["row", *head[1:]], line, strict=True)) for line in lines], note.strip()


def test_a_line_of_costs_is_the_mean_over_the_seeds(compose: Compose, tmp_path: Path, toys: Path) -> None:
    """Effectiveness is that of the main table, the costs are means, and the page has the same point and note."""
    found = {}
    for seed in (1, 2, 3):
        stages = [*STAGES, *(["speed"] if seed < 3 else [])]
        found[seed] = run(compose, settings(tmp_path, toys, "model=colbert", f"seed={seed}"), stages)
    table, (line,), note = table_of(tmp_path)
    assert len({outcomes["evaluate"].measures["nDCG@10"] for outcomes in found.values()}) > 1
    assert line["nDCG@10"] == table.cells[0][0].text and "±" in line["nDCG@10"]
    milliseconds = statistics.fmean(found[seed]["speed"].measures["ms_one_by_one"] for seed in (1, 2))
    assert line["ms_one_by_one"] == f"{milliseconds:,.4g}"
    assert note == "Means over seeds, ± the standard deviation: colbert before fine-tuning 3, costs of 2."
    page = (tmp_path / "report.html").read_text()
    assert note in page and len(re.findall(rf"{table.cells[0][0].value:.4f}", page)) > 1


def test_costs_of_other_threads_and_processors_are_lines_of_their_own(
    compose: Compose, tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the job's own threads on this machine are shown; a job that measured none shows all, named."""
    names = ["index", "search", "evaluate", "speed"]
    base = settings(tmp_path, toys, "model=bm25")
    found = {}
    for processor, threads in (("first", 1), ("first", 2), ("second", 1)):
        monkeypatch.setattr(identity, "processor", lambda processor=processor: processor)
        outcomes = run(compose, [*base, f"machine.threads={threads}"], names)
        found[processor, threads] = f"{outcomes['speed'].measures['ms_one_by_one']:,.4g}"
    for (processor, threads), milliseconds in found.items():
        monkeypatch.setattr(identity, "processor", lambda processor=processor: processor)
        machine = compose(*base, f"machine.threads={threads}").machine
        _, lines, note = table_of(tmp_path, machine)
        assert [(line["row"], line["ms_one_by_one"]) for line in lines] == [("bm25", milliseconds)] and not note
    for machine in (None, compose(*base, "machine.threads=7").machine):
        _, lines, _ = table_of(tmp_path, machine)
        assert {line["row"]: line["ms_one_by_one"] for line in lines} == {
            f"bm25 ({threads} thread{'s' * (threads > 1)}, {processor})": milliseconds
            for (processor, threads), milliseconds in found.items()
        }
    page = (tmp_path / "report.html").read_text()
    assert all(f"bm25 ({threads} thread" in page for _, threads in found)
