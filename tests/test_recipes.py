"""Every recipe runs, with its collections and published models replaced by a few lines and tiny models."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from irexp.artifact.experiment import Experiment, compose_experiment
from irexp.config.check import config_faults
from irexp.config.installation import CONF
from irexp.stage.job import Job, run_stages
from tests import recipes
from tests.chains import TEXTS, Compose, write_collection
from tests.test_experiments import NAMES, ROOT

#: Recipes on the embedded collection or on Vaswani; their collection is replaced by local files.
LOCAL = [
    *("cascade", "embedded", "engines", "families", "hard_negatives", "hybrid", "vaswani_zero_shot"),
]

#: Recipes that train on MS MARCO.
TRAINED = [name for name in NAMES if name.startswith("train_")]

#: What replaces the settings of every training, also of those that a recipe's rows and candidates have.
SHORT = {"steps": 2, "epochs": None, "validate_every": None, "batch_size": 3, "accumulate_batches": 1}

#: The collections of ir_datasets that recipes name, but for most of BEIR and NanoBEIR.
IDS = [
    *("vaswani", "msmarco-passage", "msmarco-passage/dev/small", "msmarco-passage/train"),
    "msmarco-passage/train/triples-small",
    *("msmarco-passage/train/split200-valid", "msmarco-passage/trec-dl-2019/judged"),
    *("msmarco-passage/trec-dl-2020/judged", "nano-beir/arguana", "nano-beir/nq"),
    *("beir/arguana", "beir/nq", "beir/trec-covid", "nano-beir/msmarco", "nano-beir/nfcorpus"),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub with a tiny model for each published one."""
    cache = tmp_path_factory.mktemp("hub")
    recipes.write_models(cache)
    return cache


@pytest.fixture
def _replaced(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-ins, in place for the time of a test, and options of conf/training that train two steps."""
    shutil.copytree(CONF, tmp_path / "conf")
    for option in (tmp_path / "conf" / "training").glob("*.yaml"):
        if option.stem != "none":
            OmegaConf.save({**OmegaConf.load(option), **SHORT}, option)
    of_recipe = tmp_path / "conf" / "experiment" / "hard_negatives.yaml"  # it has its own numbers of steps
    of_recipe.write_text(re.sub(r"(steps[:=] ?)\d+", r"\g<1>2", of_recipe.read_text(encoding="utf8")), encoding="utf8")
    recipes.write_files(tmp_path / "files")
    # a model of two steps finds no document clearly less relevant than another
    mined = tmp_path / "conf" / "negatives" / "mined.yaml"
    OmegaConf.save({**OmegaConf.load(mined), "absolute_margin": None}, mined)
    for module in ("tests.conftest", "irexp.artifact.experiment"):
        monkeypatch.setattr(f"{module}.CONF", tmp_path / "conf")
    recipes.use_models(hub, monkeypatch)
    compose_experiment.cache_clear()
    with recipes.collections(tmp_path / "lines", IDS):
        yield
    compose_experiment.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("_replaced")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "sbert_splade_colbert"])  # see tests/sweep
def test_a_recipe_runs_to_its_table(compose: Compose, tmp_path: Path, name: str) -> None:
    """Two steps of every training, every other stage as it is; the table has every row and column, with numbers."""
    files = [override.format(folder=tmp_path / "files") for override in recipes.TYPED.get(name, [])]
    typed = [f"experiment={name}", *files, f"paths.artifacts={tmp_path / 'artifacts'}", "machine.progress=false"]
    if name in LOCAL:
        folder = _toys(tmp_path)
        if name == "engines":  # product quantization learns 256 codes
            with (folder / "corpus.jsonl").open("a", encoding="utf8") as file:
                file.writelines(f'{{"_id": "e{n}", "text": "{TEXTS[n % 12]} {n}"}}\n' for n in range(300))
        typed += ["dataset=local", f"dataset.path={folder}"]
    if name in ("beir", "nano_beir"):
        columns = ", ".join(f"{column}: ['dataset={name}_{column.lower()}']" for column in ("ArguAna", "NQ"))
        typed += ["suite=none", "search=beir", "evaluation=beir", f"dataset={name}_nq", f"columns={{{columns}}}"]
    if name == "hybrid_beir":  # two of its five collections
        typed += ["~columns.FiQA", "~columns.NFCorpus", "~columns.SciFact"]
    _run_to_its_table(compose, tmp_path, typed)


@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_composes_on_the_embedded_collection(compose: Compose, name: str) -> None:
    """The line in its README has no faults, trains, and names no published checkpoint."""
    config = compose(*_embedded(name))
    assert config_faults(config) == []
    assert (config.dataset.name, config.training.steps) == ("aws_howto", 150)
    assert config.artifact.checkpoint == "own"
    assert not isinstance(config.artifact.initial, str)


@pytest.mark.slow
@pytest.mark.usefixtures("_replaced")
@pytest.mark.parametrize("name", ["train_colbert", "train_mono_electra"])  # the others take minutes, and compose above
def test_a_recipe_runs_on_other_data(compose: Compose, tmp_path: Path, name: str) -> None:
    """The same line with a dozen documents in place of the embedded collection, two steps of each training."""
    typed = [*_embedded(name), "dataset=local", f"dataset.path={_toys(tmp_path)}", "machine.progress=false"]
    _run_to_its_table(compose, tmp_path, [*typed, f"paths.artifacts={tmp_path / 'artifacts'}"])


def _embedded(name: str) -> list[str]:
    """The overrides in the README of an experiment that run it on the embedded collection."""
    text = (ROOT / "experiments" / name / "README.md").read_text(encoding="utf8")
    (line,) = re.findall(r"^```sh\npython run\.py (.*)\n```$", text, re.MULTILINE)
    return shlex.split(line)


def _toys(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout."""
    split = "q1\td0\t1\nq2\td4\t1\nq3\td11\t1\n"
    queries = {"q1": "make a cup", "q2": "list a tree", "q3": "copy a song"}
    return write_collection(tmp_path / "toys", queries, dict.fromkeys(("train", "dev", "test"), split))


def _run_to_its_table(compose: Compose, tmp_path: Path, typed: list[str]) -> None:
    experiment = Experiment(tuple(typed), compose(*typed))
    job = Job(typed)
    run_stages(experiment, job, tmp_path)
    columns = list(experiment.values["columns"] or [None])
    rows = list(experiment.values["rows"] or [None] * (len(experiment.values["baselines"]) + 1))
    wanted = [(row, column) for row in rows for column in columns]
    assert Counter((place.row, place.column) for place in job.cells) == Counter(wanted)
    values = [json.loads((place.folder / "measures.json").read_text(encoding="utf8")) for place in job.cells]
    assert all(math.isfinite(found) for value in values for found in value["aggregated"].values())
