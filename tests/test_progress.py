"""Progress is a bar on a terminal alone; a log gets a line now and then."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lightning import LightningModule, Trainer

from irexp.progress import counted, progress
from irexp.training.callbacks import ProgressLines

ROOT = Path(__file__).parents[1]


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        """The present."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the progress."""
    found = Clock()
    monkeypatch.setattr("irexp.progress.monotonic", found.monotonic)
    return found


def test_a_log_gets_one_line_per_thirty_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Of ten thousand updates within 100 seconds three write a line, without a carriage return."""
    with progress(total=10_000, unit=" documents", desc="encode") as bar:
        for _ in range(10_000):
            clock.now += 0.01
            bar.update(1)
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert "\r" not in text and len(lines) == 3
    assert "encode: 3,001 of 10000 documents, 00:30 since the start, 01:0" in lines[0]


def test_what_is_not_shown_writes_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """As with machine.progress=false."""
    for _ in counted(range(10), unit=" settings", desc="tune", shown=False):
        clock.now += 100
    assert capsys.readouterr().err == ""


def test_items_pass_unchanged_and_are_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of a loop without a known end names no total."""
    found = []
    for item in counted(iter("abc"), unit=" examples", desc="examples"):
        found.append(item)
        clock.now += 20
    assert found == ["a", "b", "c"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "examples: 2 examples, 00:40 since the start" in line


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is drawn again and again on the same line."""
    monkeypatch.setattr("irexp.progress.is_terminal", lambda: True)
    with progress(total=3, unit=" pairs", desc="re_rank") as bar:
        bar.update(3)
    assert capsys.readouterr().err.count("\rre_rank: ") >= 2


def test_a_training_counts_its_steps(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed one counts from where it was; with two batches per step, a step is counted once."""
    trainer = Trainer(max_steps=20, logger=False, enable_progress_bar=False, accelerator="cpu")
    module, lines = LightningModule(), ProgressLines()
    loop = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
    for batch in range(8):
        loop.total.completed = 10 + batch // 2
        if batch == 0:
            lines.on_train_start(trainer, module)
        clock.now += 11
        lines.on_train_batch_end(trainer, module)
    assert ["of 20 steps" in line for line in capsys.readouterr().err.splitlines()] == [True, True]


def test_no_module_draws_a_bar_of_its_own() -> None:
    """A bar that is not made by irexp.progress would flood a log that is not a terminal; the graph's is the other."""
    users = set()
    paths = sorted((ROOT / "irexp").rglob("*.py"))
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "tqdm":
                users.add(path.relative_to(ROOT).as_posix())
    assert len(paths) > 150
    assert users == {"irexp/progress.py", "irexp/sweep/status.py"}
