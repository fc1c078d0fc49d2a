"""A sweeper that irexp does not know gets the objective of each job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.jobs import ROOT, command, write_queries

#: A sweeper as a user writes one: it tries values and keeps what each job returned.
SWEEPER = """
import json
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class Trying(Sweeper):
    def __init__(self, *, values: list[float]) -> None:
        self.values = values

    def setup(self, *, hydra_context, task_function, config):
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        jobs = self.launcher.launch([[*arguments, f"index.b={value}"] for value in self.values], 0)
        (self.folder / "returned.json").write_text(json.dumps([job.return_value for job in jobs]))


node = {"_target_": "hydra_plugins.trying.sweeper.Trying", "values": [0.1, 1.0]}
ConfigStore.instance().store(group="hydra/sweeper", name="trying", node=node)
"""


@pytest.mark.slow
def test_any_sweeper_gets_the_objective(tmp_path: Path) -> None:
    """Of a plugin in a folder on the path, with two columns: the mean over both, of each job."""
    package = tmp_path / "plugins" / "hydra_plugins" / "trying"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sweeper.py").write_text(SWEEPER)
    toys = write_queries(tmp_path / "toys")
    columns = f'columns={{test: [], dev: ["dataset.test.qrels_path={toys}/qrels/dev.tsv"]}}'
    typed = command(toys, "-m", "hydra/sweeper=trying", "model=bm25", "stage=[index,search,evaluate]", columns)
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *typed],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    jobs = json.loads((tmp_path / "output" / "summary.json").read_text())
    means = []
    for job in jobs:
        test, dev = (stage["measures"]["nDCG@10"] for stage in job["stages"] if stage["stage"] == "evaluate")
        means.append((test + dev) / 2)
    assert json.loads((tmp_path / "output" / "returned.json").read_text()) == pytest.approx(means)
    assert [job["overrides"][-1] for job in jobs] == ["index.b=0.1", "index.b=1.0"]
