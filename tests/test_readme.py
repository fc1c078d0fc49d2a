"""The README's commands, run on the embedded default with one store of artifacts, in the README's order."""

import io
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from irexp.__main__ import main
from irexp.stage.recorded import read_cells
from tests import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the artifacts and outputs of this file's runs."""
    return tmp_path_factory.mktemp("store")


def in_a_process(command: list[str]) -> tuple[str, int]:
    """What a command prints, and its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        status, text = commands.finish(ROOT, command[1:], Path(folder) / "log", {"HF_HUB_OFFLINE": "1"})
    return text, status


def here(command: list[str]) -> tuple[str, int]:
    """The same in this process, which has imported torch and transformers."""
    printed, status = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", command)
        patch.chdir(ROOT)
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return printed.getvalue(), status


def run(
    store: Path,
    *arguments: str,
    fails: bool = False,
    execute: Callable[[list[str]], tuple[str, int]] = here,
) -> tuple[str, Any]:
    """Run `run.py`; return what it printed, and its summary."""
    number = len(list(store.glob("output*")))
    output = store / f"output{number}"
    command = ["run.py", *arguments, f"paths.artifacts={store / 'artifacts'}", "machine.progress=false"]
    command += [f"hydra.run.dir={output}", f"hydra.sweep.dir={output}"]
    text, status = execute(command)
    assert (status != 0) == fails, text
    summary = output / "summary.json"
    return text, json.loads(summary.read_text(encoding="utf8")) if summary.is_file() else {}


def statuses(summary: dict[str, Any]) -> dict[str, str]:
    """Stage → status."""
    return {stage["stage"]: stage["status"] for stage in summary["stages"]}


#: Fewer training steps and tokens than by default: `.ci/run` runs the first command in full, and compares its results.
SHORT = ("training.steps=40", "dataset.document_length=40")


@pytest.fixture(scope="module")
def first(store: Path) -> tuple[str, dict[str, Any]]:
    """The first command, `python run.py`, in a process of its own; `.ci/run` types it in a new environment."""
    return run(store, *SHORT, execute=in_a_process)


def test_every_change_is_tested_with_the_first_two_commands() -> None:
    """In an environment of their own, as the README says to type them."""
    commands = re.findall(r"^pip install -c .*$", README, re.MULTILINE)
    assert [command.rpartition(" ")[2] for command in commands] == ["run.py", "pytest"]
    assert all(command in (ROOT / ".ci" / "run").read_text(encoding="utf8") for command in commands)


@pytest.mark.slow
def test_the_bare_command_makes_everything_and_ends_with_the_table(first: tuple[str, dict[str, Any]]) -> None:
    """Even a short training improves the model."""
    text, summary = first
    assert statuses(summary) == dict.fromkeys(["fit", "encode", "index", "search", "evaluate"], "made")
    rows = re.findall(r"^\| (bm25|sbert before fine-tuning|sbert) +\| +\**(0\.\d+)", text, re.MULTILINE)
    assert [label for label, _ in rows] == ["bm25", "sbert before fine-tuning", "sbert"]
    assert float(rows[1][1]) + 0.1 < float(rows[2][1])
    assert "paired t-test" in text


def test_the_readme_shows_the_table_that_was_measured() -> None:
    """The README's values are those of the latest stage=check, which `.ci/run` repeats for the first command."""
    assert "python run.py experiment=embedded stage=check" in (ROOT / ".ci" / "run").read_text(encoding="utf8")
    shown = README.partition("<!-- table:begin -->")[2].partition("<!-- table:end -->")[0]
    cells = read_cells("embedded")
    assert len(cells) == 3
    for cell in cells:
        (line,) = re.findall(rf"^\| {cell.row} +\|(.*)$", shown, re.MULTILINE)
        assert re.findall(r"0\.\d{4}", line) == [f"{value:.4f}" for value in cell.measures.values()]


@pytest.mark.slow
def test_the_second_time_nothing_is_made(store: Path, first: tuple[str, dict[str, Any]]) -> None:
    """Every stage is already done, no file of an artifact is written again, and the table is the same."""

    def written() -> dict[Path, int]:
        files = [path for path in (store / "artifacts").rglob("*") if path.is_file() and path.name[0] != "."]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    text, summary = run(store, *SHORT)
    assert set(statuses(summary).values()) == {"already done"}
    assert written() == before and len(before) > 20
    table = [line for line in first[0].splitlines() if line.startswith("|")]
    assert [line for line in text.splitlines() if line.startswith("|")] == table


@pytest.mark.slow
def test_a_search_alone_finds_its_checkpoint_and_index(store: Path, first: tuple[str, dict[str, Any]]) -> None:
    """Another depth makes another run from the same index."""
    _, summary = run(store, *SHORT, "model=sbert", "stage=search", "search.depth=50")
    assert statuses(summary) == {"search": "made"}
    lines = (Path(summary["stages"][0]["path"]) / "test.run").read_text(encoding="utf8").splitlines()
    assert len(lines) == 50 * summary["stages"][0]["measures"]["queries"]


@pytest.mark.slow
def test_a_missing_checkpoint_is_named_with_the_difference(store: Path, first: tuple[str, dict[str, Any]]) -> None:
    """A search never trains: the error says what to run, and how the nearest checkpoint differs."""
    text, summary = run(store, *SHORT, "stage=search", "training.learning_rate=1e-4", fails=True)
    assert "stage=fit" in text
    assert "training.learning_rate: 0.0007 there, 0.0001 here" in text
    assert "Traceback" not in text
    assert summary["outcome"] == "failed"


@pytest.mark.slow
def test_a_sweep_records_every_job_and_continues_after_a_failure(
    store: Path, first: tuple[str, dict[str, Any]]
) -> None:
    """A failing job does not stop the others; the same command again runs only what is missing."""
    sweep = ["-m", "model=sbert,bm25", "seed=1,2", "stage=all", SHORT[1], "training.steps=4", "baselines=[]"]
    text, jobs = run(store, *sweep)
    assert [job["outcome"] for job in jobs] == ["done"] * 4
    labels = [line.split("|")[1].strip().strip("-") for line in text.splitlines() if line.startswith("|")]
    assert labels == ["", "", "sbert", "bm25"]
    assert "mean and standard deviation of 2 seeds" in text
    tables = [path.read_text(encoding="utf8") for path in store.glob("output*/table.md")]
    assert sum("2 seeds" in table and table in text for table in tables) == 1
    _, again = run(store, *sweep)
    assert {status for job in again for status in statuses(job).values()} <= {
        "already done",
        "nothing to do: bm25 has no checkpoint",
        "nothing to do: bm25 has no encoding",
    }
    text, jobs = run(store, *sweep, "search.exclude_path=null,nowhere.txt", fails=True)
    assert "failed" in {job["outcome"] for job in jobs}
    assert "done" in {job["outcome"] for job in jobs}
    assert "of 8 jobs failed" in text


@pytest.mark.slow
def test_the_report_has_a_row_per_measured_run(store: Path, first: tuple[str, dict[str, Any]]) -> None:
    """One table lists all measures; each label names the settings in which its row differs, and seeds are averaged."""
    text, _ = run(store, "stage=report")
    labels = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert labels[2:] == ["bm25", "sbert before fine-tuning", "sbert training.steps=40", "sbert training.steps=4"]


def test_help_lists_the_groups_and_options() -> None:
    """`--help` names every option of every group."""
    done = subprocess.run([sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for group in (ROOT / "conf").iterdir():
        if group.is_dir() and group.name not in ("hydra", "experiment"):
            line = next(line for line in done.stdout.splitlines() if line.startswith(f"{group.name}:"))
            assert all(path.stem in line for path in group.glob("*.yaml"))


def test_every_command_of_the_readme_composes() -> None:
    """No command in the README names an option or key that does not exist."""
    from irexp.config.command_line import check_command_line
    from irexp.config.resolvers import register_resolvers

    register_resolvers()
    commands = re.findall(r"^python run\.py ?(.*)$|`python run\.py ?([^`]*)`", README, re.MULTILINE)
    assert len(commands) >= 9
    for pair in commands:
        arguments = shlex.split("".join(pair).partition("#")[0])
        check_command_line(arguments, ROOT / "conf")


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """At most twenty lines fine-tune, index, search and compare; an installed model replaces the hub's."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert name in code
    assert len(code.strip().splitlines()) <= 20
    folder = instantiate(OmegaConf.load(ROOT / "conf" / "backbone" / "minilm.yaml")).location()[0]
    exec(code.replace(name, folder), {})
    rows = re.findall(r"^\| (bm25|before|after) +\|(.*)\|$", capsys.readouterr().out, re.MULTILINE)
    assert [row for row, _ in rows] == ["bm25", "before", "after"]
    values = {row: float(re.findall(r"0\.\d{4}|1\.\d{4}", cells)[0]) for row, cells in rows}
    assert values["after"] >= values["before"] > values["bm25"]


def test_every_link_of_the_readme_has_a_target() -> None:
    """Every link leads to a section or a file; the table of contents lists every section."""
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(links) >= 14
    for link in links:
        path, _, anchor = link.partition("#")
        assert not path or (ROOT / path).exists(), link
        assert not anchor or path or anchor in anchors, link
    contents = README.partition("| I want to … | |")[2].partition("\n\n")[0]
    assert anchors <= set(re.findall(r"\(#([^)]+)\)", contents)), "a section that the table of contents lacks"


def test_the_file_tree_lists_every_package() -> None:
    """The README's tree has each folder of irexp, and no other."""
    tree = README.partition("irexp/\n")[2].partition("tests/ ")[0]
    listed = {name for line in tree.splitlines() for name in re.findall(r"(?:^  | )(\w+)/", line)}
    folders = {path.parent.name for path in (ROOT / "irexp").glob("*/__init__.py")}
    assert listed == folders


def test_the_engine_table_lists_every_engine() -> None:
    """Each option of conf/index has a line, and each line is of an existing engine."""
    table = README.partition("<!-- engines:begin -->")[2].partition("<!-- engines:end -->")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "conf" / "index").glob("*.yaml"))
