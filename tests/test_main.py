"""The command line in a clone: `python run.py` and `python -m irexp` are the same."""

import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from irexp.__main__ import main, run
from irexp.stage import output
from tests.chains import write_collection

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "lightning", "transformers", "faiss"]


@pytest.mark.parametrize("start", ["runpy.run_path('run.py', run_name='__main__')", "runpy.run_module('irexp')"])
def test_no_torch_for_help(start: str) -> None:
    """The configuration answers without torch, Lightning, transformers or faiss being imported."""
    start = start.replace("('irexp')", "('irexp', run_name='__main__', alter_sys=True)")
    code = (
        "import sys; sys.argv = ['run.py', '--cfg', 'job', '--resolve', '-p', 'artifact']; import runpy; "
        f"{start}; print(sorted({{*{HEAVY}}} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "checkpoint: own" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_no_torch_for_bm25(tmp_path: Path) -> None:
    """Indexing, searching and evaluating texts imports neither: they would take most of the time."""
    collection = write_collection(tmp_path, {"q": "make cups"}, {"test": "q\td0\t1\n"})
    places = [f"dataset.path={collection}", f"paths.artifacts={tmp_path / 'artifacts'}", f"hydra.run.dir={tmp_path}"]
    typed = ["run.py", "model=bm25", "stage=[index,search,evaluate]", "dataset=local", *places]
    code = (
        f"import sys; sys.argv = {typed}; import runpy; runpy.run_path('run.py', run_name='__main__'); "
        f"print(sorted({{*{HEAVY}}} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "evaluate: made in" in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_says_what_to_type() -> None:
    """In a clone that is `python run.py`, however the help was asked for."""
    texts = [
        subprocess.run([sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for start in (["run.py"], ["-m", "irexp"])
    ]
    assert texts[0] == texts[1]
    assert re.search(r"^ +python run\.py model=sbert stage=search  ", texts[0], re.MULTILINE)


def test_garbage_is_collected_during_jobs_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before the first job is not walked through; what one job leaves must not be kept in the next."""
    monkeypatch.setattr("irexp.stage.job.run_job", lambda _: float(gc.isenabled()))
    try:
        gc.disable()  # as main does
        assert run(OmegaConf.create()) == 1.0
        frozen = gc.get_freeze_count()
        assert run(OmegaConf.create()) == 1.0
        assert 0 < gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize(("code", "ended"), [(143, "stopped"), (1, "lost")])
def test_a_sweep_that_ends_early_lists_its_jobs(
    code: int, ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, or by an error of a launcher, whose processes recorded nothing: the command that started them does."""
    (tmp_path / "0").mkdir()
    record = {"overrides": [], "outcome": "running", "seconds": 0.0, "error": None}
    (tmp_path / "0" / "summary.json").write_text(json.dumps(record))

    def hydra_main(**_: object) -> Callable[[object], Callable[[], None]]:
        return lambda _: lambda: sys.exit(code)

    monkeypatch.setattr("irexp.__main__.hydra.main", hydra_main)
    monkeypatch.setattr("irexp.__main__.check_arguments", lambda *_: None)
    monkeypatch.setattr(output, "_sweeps", [tmp_path])
    with pytest.raises(SystemExit, match=str(code)):
        main()
    (job,) = json.loads((tmp_path / "summary.json").read_text())
    assert job["outcome"] == ended
