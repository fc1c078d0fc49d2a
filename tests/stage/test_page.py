"""The page of a report: what it holds, that texts cannot become markup, and that it loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from irexp.artifact.experiment import composed
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import make_plan
from irexp.artifact.store import Store
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import Evaluation, register_schema
from irexp.evaluation.table import Table
from irexp.stage.execute import execute
from irexp.stage.page import PAGE
from irexp.stage.report import report
from irexp.stage.show import show
from irexp.stage.sweep import tabulate_sweep
from irexp.training.callbacks import read_history
from irexp.types import UserError
from tests.chains import STAGES, Compose, run, settings, write_collection
from tests.trainings import SMALL, write_toys

#: Text that would run if it became markup.
HOSTILE = "make cups <script>document.title='hacked'</script>\"><img src=x onerror=alert(1)>"

#: The row of BM25.
BM25 = 'BM25: ["model=bm25"]'

VOID = {"meta", "br", "img"}


class Parsed(HTMLParser):
    """A page's elements with their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        """Parse the whole page; every element must be closed."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """Every element ends in the one that it began in."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Add text to the innermost element."""
        for tag in self._open:
            self.texts[tag][-1] += data

    def count(self, tag: str, **attributes: str) -> int:
        """How many elements have these attributes."""
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.elements)


def make_hostile(folder: Path) -> Path:
    """A collection whose queries and documents hold markup."""
    queries = {"q0": HOSTILE, "q1": "list trees", "q2": "copy a song"}
    write_collection(folder, queries, {"test": "q0\td0\t2\nq1\td4\t1\nq2\td11\t1\n"})
    lines = (folder / "corpus.jsonl").read_text().splitlines()
    lines[0] = json.dumps({"_id": "d0", "text": HOSTILE})
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_rows(root: Path, rows: str, stages: list[str]) -> None:
    """Make the measures of some rows on the hostile collection, below a folder."""
    register_resolvers()
    register_schema()
    overrides = settings(root, make_hostile(root / "toys"), f"rows={{{rows}}}")
    assert list(execute(make_plan(composed(overrides), stages), Store(root / "artifacts"), root))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the collection and three measured rows, one of which has no stemmer and so other results."""
    root = tmp_path_factory.mktemp("store")
    make_rows(root, f'{BM25}, ours: [], other: ["model=bm25","index.stemmer=null"]', STAGES)
    return root


def page_of(root: Path, output: Path, *measures: str) -> tuple[Table, str]:
    """The table and the page of everything that was measured."""
    evaluation = Evaluation(list(measures or ("nDCG@10",)), "t", 100, "holm", 0.05)
    table = report(output, None, artifacts=str(root / "artifacts"), evaluation=evaluation, html=True)
    return table, (output / PAGE).read_text(encoding="utf8")


def test_a_page_shows_the_table_and_texts_and_runs_nothing_of_theirs(
    compose: Compose, store: Path, tmp_path: Path
) -> None:
    """Queries and documents with markup are shown as text, the only script is irexp's, and nothing is loaded."""
    given = tmp_path / "<i>their.run"
    given.write_text("".join(f"q{n} Q0 d{n + 1} 1 9 theirs\n" for n in range(3)))
    copied = shutil.copytree(store / "artifacts", tmp_path / "artifacts").parent
    run(compose, settings(copied, store / "toys", f'artifact.run="{given}"'), ["evaluate"])
    table, text = page_of(copied, tmp_path, "nDCG@10", "RR@10")
    found = Parsed(text)
    assert [tag for tag, _ in found.elements if tag in ("script", "img", "i", "link", "iframe")] == ["script"]
    digest = base64.b64encode(hashlib.sha256(found.texts["script"][0].encode()).digest()).decode()
    (policy,) = [attributes["content"] for _, attributes in found.elements if "http-equiv" in attributes]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not [
        a for _, a in found.elements if a.keys() & {"src", "onerror", "onclick"} or "url(" in str(a.get("style"))
    ]
    links = [str(attributes["href"]) for _, attributes in found.elements if "href" in attributes]
    anchors = {f"#{attributes['id']}" for tag, attributes in found.elements if tag == "section"}
    assert len(links) >= 5 and set(links) == anchors
    assert HOSTILE in found.texts["q"]
    assert any(HOSTILE in item for item in found.texts["li"])
    numbers = [cell.text + cell.marker for cells in table.cells for cell in cells]
    assert [cell for cell in found.texts["td"] if cell][: len(numbers)] == numbers
    assert [head.strip() for head in found.texts["th"][2 : 2 + len(table.rows)]] == [row.label for row in table.rows]
    assert table.footer in found.texts["p"]
    assert found.count("details", **{"class": "difference"}) == 6 * 2  # pairs of four rows, two measures
    assert found.count("details", open="") == 1


def test_a_page_gives_the_command_of_each_row(store: Path, tmp_path: Path) -> None:
    """A command is the recorded overrides and stages; it leads to the measures whose row it is in, as `show` says."""
    _, text = page_of(store, tmp_path)
    commands = [shlex.split(command)[2:] for command in Parsed(text).texts["code"] if command.startswith("python")]
    names = [name for name in re.findall(r"measures/[\w.]+-[0-9a-f]{8}", text)]
    found = []
    for typed in commands:
        stages = typed[-1].removeprefix("stage=[").removesuffix("]").split(",")
        plan = make_plan(composed(typed[:-1]), stages)
        assert {step.stage.name for step in plan.own if step.stage} == set(stages)
        found += [step.name for step in plan.own if step.name.startswith("measures/")]
    assert found == list(dict.fromkeys(names))
    assert sorted(len(typed[-1].split(",")) for typed in commands) == [3, 3, 5]
    shown = [shlex.split(show(tmp_path, artifacts=str(store / "artifacts"), of=name))[2:] for name in found]
    assert shown == commands


def test_a_page_says_what_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A changed collection and a damaged run are left out; page and log say why, and the rest is there."""
    make_rows(tmp_path, f'{BM25}, other: ["model=bm25","index.stemmer=null"]', ["index", "search", "evaluate"])
    lineage = Lineage(Store(tmp_path / "artifacts"))
    with (tmp_path / "toys" / "queries.jsonl").open("a") as file:
        file.write('{"_id": "q9", "text": "another"}\n')
    damaged = next(folder for name, folder in lineage.folders.items() if name.startswith("run/"))
    with (damaged / "test.run").open("a") as file:
        file.write("q0\tQ0\td9\t99\t-9.0\tbm25\n")
    table, text = page_of(tmp_path, tmp_path)
    found = Parsed(text)
    reason = "its queries, judgements or documents have changed since it was measured"
    assert f"The texts cannot be shown: {reason}" in found.texts["p"]
    assert "Its run could not be read." in found.texts["p"]
    assert reason in caplog.text and f"{damaged / 'test.run'}" in caplog.text
    assert HOSTILE not in found.texts.get("q", [])
    assert len(table.rows) == 2 and found.count("div", **{"class": "command"}) == 2


def test_the_page_is_asked_for_by_a_boolean(tmp_path: Path, collection: Path) -> None:
    """Another value is refused in one line, before anything is made; without the key there is no page."""
    for value in ("maybe", "html"):
        with pytest.raises(UserError, match=r"stage\.report\.html"):
            make_plan(
                composed(settings(tmp_path, collection, "stage=report", f"stage.report.html={value}")), ["report"]
            )


def test_a_page_says_how_many_measures_it_leaves_out(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has every row, however few the lineage and the commands may have."""
    monkeypatch.setattr("irexp.stage.page.MEASURES", 1)
    table, text = page_of(store, tmp_path)
    assert len(table.rows) == 3 and Parsed(text).count("div", **{"class": "command"}) == 1
    assert "2 measures are left out, here and below" in text


def test_a_page_shows_the_curves_of_trainings_and_the_costs_of_searches(compose: Compose, tmp_path: Path) -> None:
    """The curves are those of the history under the label of their row; each search that was timed is a dot."""
    base = [typed for typed in settings(tmp_path, write_toys(tmp_path / "toys")) if typed != "training=none"]
    base += [*SMALL, "training.batch_size=4", f"dataset.test.qrels_path={tmp_path}/toys/qrels/dev.tsv"]
    for more, stages in ((["training.steps=4"], [*STAGES, "speed"]), (["model=bm25"], [*STAGES[2:], "speed"])):
        run(compose, [*base, *more], stages)
    run(compose, [*base, "model=bm25", "index.stemmer=null"], STAGES[2:])
    table, text = page_of(tmp_path, tmp_path)
    labels = [row.label for row in table.rows]
    assert len(labels) == 3 and {"bm25 index.stemmer=english", "sbert"} < set(labels)
    (history,) = (tmp_path / "artifacts" / "checkpoint").glob("*/history.csv")
    expected = {f"sbert: {float(line['value']):.4g} at {line['step']}" for line in read_history(history)}
    titles = [unescape(title) for title in Parsed(text).texts["title"]]
    assert len(expected) == 3 and expected <= set(titles)
    dots = [title for title in titles if re.fullmatch(r"[^:]+: 0\.\d{4} at \S+", title)]
    timed = sorted(title.partition(":")[0] for title in dots if title not in expected)
    assert timed == 2 * ["bm25 index.stemmer=english"] + 2 * ["sbert"]


def test_a_sweep_ends_with_the_page_of_all_jobs(compose: Compose, store: Path, tmp_path: Path) -> None:
    """In the sweep's folder, if the key is set."""
    (tmp_path / "0").mkdir()
    folders = sorted((store / "artifacts" / "measures").glob("[!.]*"))
    cells = [{"folder": str(folder), "row": None, "column": None} for folder in folders]
    (tmp_path / "0" / "summary.json").write_text(json.dumps({"cells": cells}))
    for html in (False, True):
        overrides = settings(store, store / "toys", "stage=report", f"stage.report.html={html}")
        tabulate_sweep(tmp_path, compose(*overrides))
        assert (tmp_path / PAGE).is_file() == html
    assert Parsed((tmp_path / PAGE).read_text(encoding="utf8")).texts["title"][0] == "toys: 3 rows"


@pytest.fixture
def browser(tmp_path: Path) -> list[str]:
    """The command of headless Chromium, with a profile of its own."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return [path, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    pytest.skip("there is no Chromium on this machine to render the page")


@pytest.mark.slow
def test_a_browser_shows_the_page(browser: list[str], store: Path, tmp_path: Path) -> None:
    """Headless Chromium runs the page's script and none of the texts', and the picture is not blank."""
    page_of(store, tmp_path, "nDCG@10", "RR@10")
    where = (tmp_path / PAGE).as_uri()
    dumped = subprocess.run([*browser, "--dump-dom", where], capture_output=True, text=True, timeout=120, check=True)
    found = Parsed(dumped.stdout)
    assert found.texts["title"][0] == "toys: 3 rows"
    hidden = [attributes for tag, attributes in found.elements if tag == "details" and "hidden" in attributes]
    assert len(hidden) == found.count("details") - 1 == 5  # the script shows one comparison of six
    picture = tmp_path / "page.png"
    subprocess.run([*browser, "--window-size=1000,2000", f"--screenshot={picture}", where], timeout=120, check=True)
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[:2] == (2000, 1000)
    assert len({tuple(pixel) for pixel in pixels[::7, ::7, :3].reshape(-1, 3).round(2)}) > 20


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "background"), [("1", (255, 255, 255)), ("0", (0x12, 0x16, 0x1B))])
def test_the_page_follows_the_colour_scheme(
    browser: list[str], store: Path, tmp_path: Path, scheme: str, background: tuple[int, ...]
) -> None:
    """Light or dark, most of the picture is the background, and its texts and lines are of other colours."""
    page_of(store, tmp_path)
    picture = tmp_path / "page.png"
    more = [f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"]
    subprocess.run([*browser, *more, (tmp_path / PAGE).as_uri()], timeout=120, check=True, capture_output=True)
    from matplotlib.image import imread

    colours = [tuple(pixel) for pixel in (imread(picture)[::3, ::3, :3].reshape(-1, 3) * 255).round().astype(int)]
    assert colours[0] == background
    assert colours.count(background) > len(colours) / 2 and len(set(colours)) > 20


@pytest.mark.slow
def test_the_page_prints_all_but_what_only_a_screen_can_use(browser: list[str], store: Path, tmp_path: Path) -> None:
    """A few sheets with the table, the open comparison and every command; no buttons and choices."""
    page_of(store, tmp_path)
    printed = tmp_path / "page.pdf"
    more = ["--no-pdf-header-footer", f"--print-to-pdf={printed}"]
    subprocess.run([*browser, *more, (tmp_path / PAGE).as_uri()], timeout=120, check=True, capture_output=True)
    sheets = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert 2 <= sheets <= 8
    if not shutil.which("pdftotext"):
        pytest.skip(f"{sheets} sheets; pdftotext, which reads them, is not installed")
    command = ["pdftotext", "-layout", str(printed), "-"]
    text = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    for words in ("bm25", "sbert", "nDCG@10", "Lineage", "Provenance", "Ties: score descending"):
        assert words in text
    assert text.count("stage=") == 3 and text.count(" minus ") == 1  # each command whole, and only the open comparison
    assert "Copy" not in text and "This page does not hold" not in text
