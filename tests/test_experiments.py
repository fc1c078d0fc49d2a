"""Every experiment has a recipe, a claim and numbers, and the small ones meet their claims."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from irexp.peer.limits import Limits
from irexp.stage.claim import read_claims
from irexp.stage.recipe_table import bullet, tables
from irexp.stage.recorded import read_cells

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/expected.yaml"))

#: Recipes that measure speed, of which nothing is claimed; experiments/speed is the record of all of them.
SPEED = ["speed_encode", "speed_fit", "speed_gpu", "speed_growth", "speed_keys", "speed_re_rank"]

#: Those whose results are in a folder of their own: the part that is generated there, and the folder.
OWN_FOLDERS = {"speed_gpu": ("speed_encode", "gpu/base"), "speed_keys": ("speed_fit", "keys")}
COLLECTIONS = ROOT.parent / "shared" / "collections"
VASWANI, STACKFAQ = COLLECTIONS / "vaswani", COLLECTIONS / "stackfaq"

#: By how much an approximate engine's nDCG@10 may be below the exact one's, as in experiments/engines.
LOSS = {
    "binary": 0.005,
    "faiss_sq": 0.001,
    "faiss_ivf": 0.01,
    "faiss_ivf_pq": 0.01,
    "faiss_hnsw": 0.005,
    "index.weights=uint8": 0.002,
    "seismic": 0.005,
    "plaid": 0.01,
    "muvera": 0.01,
}


def expected(name: str) -> dict[str, dict[str, Any]]:
    """Row → measure → value, tolerance and source."""
    rows = OmegaConf.to_container(OmegaConf.load(ROOT / "experiments" / name / "expected.yaml"))
    assert isinstance(rows, dict)
    return dict(rows["rows"])


def test_every_recipe_has_a_claim_and_every_claim_a_recipe() -> None:
    """conf/experiment and experiments/ hold the same names, and there are at least two; speed is claimed of none."""
    assert sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")) == sorted([*NAMES, *SPEED])
    assert len(NAMES) >= 2
    for name in NAMES:
        text = (ROOT / "experiments" / name / "README.md").read_text(encoding="utf8")
        assert re.search(r"^Claim: .", text, re.MULTILINE), name
        assert all(bullet(name, part) for part in ("Source", "Deviations", "Cost"))
        assert " GB" in bullet(name, "Cost"), name
        assert f"experiment={name}" in bullet(name, "Run")


def test_the_record_of_speed_has_a_generated_part_and_a_command_of_each_recipe() -> None:
    """Whoever reads a table there knows what makes it again, and a run finds the place of its table."""
    text = (ROOT / "experiments" / "speed" / "README.md").read_text(encoding="utf8")
    for name in SPEED:
        assert re.search(rf"python run\.py (-m stage=peers )?experiment=(\w+,)*{name}\b", text), name
        part = name if name != "speed_growth" else "growth"
        if name in OWN_FOLDERS:
            part, folder = OWN_FOLDERS[name]
            assert f"<!-- {part}: end -->" in (ROOT / "experiments" / "speed" / folder / "README.md").read_text("utf8")
            continue
        assert f"<!-- {part}: generated -->" in text and f"<!-- {part}: end -->" in text, name


def test_the_tables_of_engines_are_those_of_their_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """experiments/speed/README.md holds nothing that was typed, and the script that measures runs."""
    folder = ROOT / "experiments" / "speed"
    monkeypatch.syspath_prepend(str(folder))
    shown = runpy.run_path(str(folder / "record.py"))["shown"]
    kept = json.loads((folder / "engines.json").read_text(encoding="utf8"))
    text = (folder / "README.md").read_text(encoding="utf8")
    assert all(f"<!-- {kind}: generated -->\n\n{shown(kind, sizes)}\n" in text for kind, sizes in kept.items())
    benchmark = runpy.run_path(str(folder / "benchmark.py"))
    assert set(benchmark["SIZES"]) == set(kept)
    threads = torch.get_num_threads()
    monkeypatch.setitem(benchmark["main"].__globals__, "measure_limits", lambda *_: Limits(1.0, 1.0, 1.0))
    benchmark["main"](["sparse", "300", "engines=sparse"])
    torch.set_num_threads(threads)
    assert re.findall(r"^\| (\w+) \| .* \| (1\.000) \| 0\.", capsys.readouterr().out, re.MULTILINE) == [
        ("sparse", "1.000"),
        ("scipy", "1.000"),
    ]


def test_one_command_makes_every_table_of_speed() -> None:
    """Each recipe that needs no GPU is among what it runs, and each interpreter is handed on to those that compare."""
    make = runpy.run_path(str(ROOT / "experiments" / "speed" / "make.py"))
    given = ["pylate=p/bin/python", "lightning_ir=l/bin/python", "dataset=aws_howto"]
    words = [word for command in make["commands"](given) for word in command]
    named = [name for word in words if word.startswith("experiment=") for name in word.split("=")[1].split(",")]
    assert sorted([*named, "speed_gpu"]) == SPEED
    assert words.count("dataset=aws_howto") == 2
    path = str(Path("p/bin/python").absolute())
    assert f"stage.peers.python.pylate={path}" in words and words[words.index("--pylate") + 1] == path
    scripts = [word.removeprefix("tests.benchmark.") for word in words if word.startswith("tests.benchmark.")]
    assert scripts == ["fit_peers", "start_up", "end_to_end"]
    assert all((ROOT / "tests" / "benchmark" / f"{script}.py").is_file() for script in scripts)


def test_the_table_of_experiments_is_generated() -> None:
    """experiments/README.md is what stage=check writes, and no experiment fails its claim."""
    shown = tables()
    assert shown in (ROOT / "experiments" / "README.md").read_text(encoding="utf8")
    assert "FAIL" not in shown
    cells = [cell for name in NAMES for cell in read_cells(name)]
    assert len(cells) >= 4
    assert all(cell.commits and "unknown" not in cell.commits and cell.machines for cell in cells)


def test_every_claim_is_on_a_cell_of_its_recipe() -> None:
    """Where rows and columns have names, in the recipe or its suite, a claim names two of them, or the mean."""
    seen = 0
    for name in NAMES:
        recipe: Any = OmegaConf.load(ROOT / "conf" / "experiment" / f"{name}.yaml")
        suites = [part["override /suite"] for part in recipe.defaults if "override /suite" in part]
        for suite in suites:
            recipe = OmegaConf.merge(OmegaConf.load(ROOT / "conf" / "suite" / f"{suite}.yaml"), recipe)
        if "rows" in recipe:
            seen += 1
            columns = [*recipe.get("columns", []), *(["mean"] if recipe.get("mean") else [])] or [""]
            places = {(claim.row, claim.column) for claim in read_claims(name).values}
            assert places <= {(row, column) for row in recipe.rows for column in columns}, name
    assert seen >= 10


def test_the_record_of_hard_negatives_shows_its_claims() -> None:
    """The table in its README, with p-values of the sweep's comparisons, has the expected values."""
    text = (ROOT / "experiments" / "hard_negatives" / "README.md").read_text(encoding="utf8")
    shown = re.findall(r"^\| ([^|]+?) \| (0\.\d{4}) \|", text, re.MULTILINE)
    values = {row: measures["nDCG@10"]["value"] for row, measures in expected("hard_negatives").items()}
    assert {row: float(value) for row, value in shown} == values


def test_the_page_on_larger_collections_is_what_its_script_computes() -> None:
    """experiments/speed/scale.md holds nothing that was typed."""
    folder = ROOT / "experiments" / "speed"
    done = subprocess.run([sys.executable, folder / "scale.py"], capture_output=True, text=True, check=True)
    assert done.stdout == (folder / "scale.md").read_text(encoding="utf8")


def test_the_page_on_larger_collections_computes_with_the_rates_of_the_readme() -> None:
    """Of encoding in both precisions, re-ranking and training; and with the engines at their largest sizes."""
    folder = ROOT / "experiments" / "speed"
    scale = runpy.run_path(str(folder / "scale.py"))
    text = (folder / "README.md").read_text(encoding="utf8")
    for task, line in (("encode", "irexp"), ("encode", "irexp, bfloat16"), ("re_rank", "irexp"), ("fit", "irexp")):
        section = text.partition(f"<!-- speed_{task}: generated -->")[2]
        shown = re.search(rf"^\| \w+ \| {line} \| ([\d.]+) \|", section, re.MULTILINE)
        (load,) = scale["record"](f"speed_{task}.json")["loads"].values()
        operations = load["tokens"] / load["items"] * load["operations"] * (3 if task == "fit" else 1)
        assert shown and float(shown[1]) == round(scale["rate"](f"speed_{task}.json", line) / operations, 1)
    assert scale["measured"]()["faiss_sq"][-1] == (1_000_000, 7.2, 1920.0, 30.889)
    assert scale["measured"]()["milvus_tokens"] == [(1000, 7.0, 77405.0, 439.82)]
    assert len(scale["ENGINES"]) >= 17 and all(made.name in scale["measured"]() for made in scale["ENGINES"])
    (gpus,) = re.findall(r"ClueWeb22-B \| BERT base, 768 dimensions .* \| 44 \| (\d+) \| 9\.5", scale["page"](8.0))
    assert gpus == "6"


def test_the_readme_shows_the_claims_of_the_families_experiment() -> None:
    """The README's table of all families has the values of experiments/families."""
    section = (ROOT / "README.md").read_text(encoding="utf8").partition("<!-- families:begin -->")[2]
    lines = [line.split("|") for line in section.partition("<!-- families:end -->")[0].splitlines() if "0." in line]
    shown = {cells[1].strip(): float(cells[2]) for cells in lines}
    assert shown == {row: measures["nDCG@10"]["value"] for row, measures in expected("families").items()}


def run(name: str, folder: Path, *overrides: str) -> dict[str, float]:
    """Run an experiment; row → nDCG@10."""
    command = [sys.executable, "run.py", f"experiment={name}", *overrides, "machine.progress=false"]
    command += [f"paths.artifacts={folder / 'artifacts'}", f"hydra.run.dir={folder / 'output'}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| ([^|]+?) +\| +\**(0\.\d{4})", done.stderr, re.MULTILINE)
    return {label: float(value) for label, value in rows}


@pytest.mark.slow
@pytest.mark.skipif(not VASWANI.is_dir(), reason="the Vaswani collection is not next to this checkout")
def test_vaswani_zero_shot_meets_its_claim(tmp_path: Path) -> None:
    """The recipe, with the collection from a folder, since ir_datasets needs a network."""
    found = run("vaswani_zero_shot", tmp_path, "dataset=local", f"dataset.path={VASWANI}")
    for row, measures in expected("vaswani_zero_shot").items():
        value = measures["nDCG@10"]
        assert found[row] == pytest.approx(value["value"], abs=value["tolerance"])


@pytest.mark.slow
@pytest.mark.skipif(not STACKFAQ.is_dir(), reason="the StackFAQ collection is not next to this checkout")
def test_engines_on_stackfaq_lose_at_most_the_stated_quality(tmp_path: Path) -> None:
    """On the same vectors exact engines agree to three digits, and approximate ones stay within `LOSS`."""
    folder = tmp_path / "stackfaq"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").symlink_to(STACKFAQ / "corpus.jsonl")
    queries = (STACKFAQ / "queries.jsonl").read_text(encoding="utf8").splitlines()[::16]
    (folder / "queries.jsonl").write_text("\n".join(queries) + "\n", encoding="utf8")
    kept = {json.loads(line)["_id"] for line in queries}
    header, *judgements = (STACKFAQ / "qrels" / "test.tsv").read_text(encoding="utf8").splitlines()
    lines = [header, *(line for line in judgements if line.split("\t")[0] in kept)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf8")
    # of short documents, since engines are compared on the same vectors, whatever these are of
    found = run("engines", tmp_path, "dataset=local", f"dataset.path={folder}", "dataset.document_length=48")
    assert found.keys() == expected("engines").keys()
    exact = {
        row.split()[0]: value
        for row, value in found.items()
        if re.search(r"index=(faiss_flat|(sparse|maxsim) index\.(weights|precision)=float32) before", row)
    }
    assert exact.keys() == {"sbert", "splade", "colbert"}
    for row, value in found.items():
        loss = [LOSS[name] for name in LOSS if re.search(rf"{name}( |$)", row)]
        if "index=xtr" not in row:  # XTR's scores are defined differently
            assert exact[row.split()[0]] - value <= (loss[0] if loss else 0.0005), row
