"""CONTRIBUTING.md, followed: its files are written into a copy of the repository, its commands typed, in its order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")

#: Heading → what stands below it.
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", TEXT, re.MULTILINE))

#: A file's name and its content, or what is to be changed in it.
_FILE = re.compile(r"^`([^`\n]+)`\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_COPY = re.compile(r"^`([^`\n]+)` is `([^`\n]+)`$", re.MULTILINE)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: Heading → how many files are written or changed, and how many commands of run.py are typed.
RECIPES = {
    "A collection": (2, 1),
    "A measure": (0, 1),
    "A loss": (2, 1),
    "A package of your own": (5, 1),
    "An engine": (2, 1),
    "A model family": (2, 1),
    "A stage": (3, 1),
}


def files_of(heading: str) -> list[tuple[str, str, str]]:
    """The files of a recipe: name, language, content."""
    return _FILE.findall(SECTIONS[heading])


def commands_of(heading: str) -> list[list[str]]:
    """What is typed after run.py, for each command of a recipe."""
    lines = [
        line for language, block in _BLOCK.findall(SECTIONS[heading]) if language == "sh" for line in block.split("\n")
    ]
    return [shlex.split(line)[2:] for line in lines if line.startswith("python run.py")]


def write(root: Path, heading: str) -> None:
    """Write the files of a recipe below a folder; a difference is applied where its first line stands."""
    for name, language, content in files_of(heading):
        path = root / name
        if language == "diff":
            (before, *added) = content.splitlines(keepends=True)
            old = path.read_text(encoding="utf8")
            assert old.count(before[1:]) == 1 and all(line.startswith("+") for line in added)
            new = old.replace(before[1:], before[1:] + "".join(line[1:] for line in added))
        else:
            assert not path.exists(), f"{name} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            new = content
        path.write_text(new, encoding="utf8")
    for name, source in _COPY.findall(SECTIONS[heading]):
        shutil.copy(root / source, root / name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the files of all recipes."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("irexp", "conf"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", root)
    for heading in RECIPES:
        write(root, heading)
    return root


def run(clone: Path, arguments: list[str], variables: Mapping[str, str] | None = None) -> tuple[int, str, Path]:
    """Type a command in the copy; its exit status, what it printed, and its output folder."""
    output = clone / f"output{len(list(clone.glob('output*')))}"
    places = [f"paths.artifacts={clone / 'artifacts'}", f"hydra.run.dir={output}", f"hydra.sweep.dir={output}"]
    environment = {key: value for key, value in os.environ.items() if key not in ("IREXP_PACKAGES", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "run.py", *arguments, *places, "machine.progress=false"],
        cwd=clone,
        env={**environment, "HF_HUB_OFFLINE": "1", **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, output


def follow(clone: Path, heading: str, *more: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Type the command of a recipe; what it prints must hold the lines shown below it.

    Returns:
        The job's summary.
    """
    (arguments,) = commands_of(heading)
    status, printed, output = run(clone, [*arguments, *more], variables)
    assert status == 0, printed
    shown = [block for language, block in _BLOCK.findall(SECTIONS[heading]) if language == "text"]
    lines = [line for block in shown for line in block.splitlines()]
    assert lines
    for line in lines:
        pattern = ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("…"))
        assert re.search(pattern, printed), f"{line}\n\n{printed}"
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text(encoding="utf8"))
    return summary


def made_from(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the last artifact of a job was made from."""
    manifest = Path(summary["stages"][-1]["path"]) / "manifest.json"
    found: dict[str, Any] = json.loads(manifest.read_text(encoding="utf8"))["made_from"]
    return found


def test_every_recipe_is_followed() -> None:
    """No file and no command of CONTRIBUTING.md is overlooked here."""
    counted = {
        heading: (len(files_of(heading)) + len(_COPY.findall(text)), len(commands_of(heading)))
        for heading, text in SECTIONS.items()
    }
    assert {heading: counts for heading, counts in counted.items() if counts != (0, 0)} == RECIPES
    assert len(re.findall(r"^python run\.py", TEXT, re.MULTILINE)) == sum(commands for _, commands in RECIPES.values())
    named = re.findall(r"^`([^`\n]+/[^`\n]+)`(?: is .*)?\n", TEXT, re.MULTILINE)
    assert len(named) == sum(files for files, _ in RECIPES.values())


def test_what_is_copied_is_in_style(clone: Path) -> None:
    """Ruff, under the rules of the house, finds nothing in the files of the recipes."""
    names = [name for heading in RECIPES for name, language, _ in files_of(heading) if language == "python"]
    shutil.copy(ROOT / "pyproject.toml", clone)
    for command in (["check"], ["format", "--check"]):
        program = [str(Path(sys.executable).parent / "ruff"), *command, *names]
        done = subprocess.run(program, cwd=clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(names) == 7


@pytest.mark.slow
def test_a_collection_is_measured_and_a_stage_reads_its_measures(clone: Path) -> None:
    """BM25 over four proverbs, other measures of its run, and the hardest query."""
    follow(clone, "A collection")
    follow(clone, "A measure")
    assert follow(clone, "A stage")["outcome"] == "done"


@pytest.mark.slow
def test_a_loss_is_trained_with(clone: Path) -> None:
    """It is what the checkpoint was made from."""
    assert made_from(follow(clone, "A loss"))["loss"] == {"_target_": "Hinge", "margin": 0.2}


@pytest.mark.slow
def test_an_engine_is_built_and_searched(clone: Path) -> None:
    """In 32 dimensions."""
    summary = follow(clone, "An engine")
    (index,) = [Path(stage["path"]) for stage in summary["stages"] if stage["stage"] == "index"]
    manifest = json.loads((index / "manifest.json").read_text(encoding="utf8"))
    assert manifest["made_from"]["index"] == {"_target_": "Leading", "dims": 32}


@pytest.mark.slow
def test_a_family_is_trained_and_saved(clone: Path) -> None:
    """Its settings stand in irexp.json."""
    summary = follow(clone, "A model family")
    said = json.loads((Path(summary["stages"][-1]["path"]) / "irexp.json").read_text(encoding="utf8"))
    assert said == {"family": "head", "name": "head", "query_length": 24, "document_length": 80, "dim": 32}


#: The heading of the recipe for a package outside of irexp, and the folder that holds it.
OUTSIDE, FOLDER = "A package of your own", "my-losses"


def test_a_package_that_is_not_declared_is_refused(clone: Path) -> None:
    """Its option files are not read, its classes not named, no override declares it; one sentence says what does."""
    variables = {"PYTHONPATH": FOLDER}
    (arguments,) = commands_of(OUTSIDE)
    folder = [f"--config-dir={FOLDER}/my_losses/conf", "loss=our_hinge", "stage=fit"]
    for typed, place in [
        (arguments, "pkg://my_losses.conf is outside"),
        (folder, "loss._target_: my_losses.hinge.Hinge is outside"),
        ([*folder, "+hydra.job.env_set.IREXP_PACKAGES=my_losses"], "hydra.job.env_set.IREXP_PACKAGES: a configuration"),
    ]:
        status, printed, _ = run(clone, typed, variables)
        assert status == 1
        assert place in printed
        assert "by an entry point in the group irexp.components, or named in the environment variable" in printed


@pytest.mark.slow
def test_a_package_is_declared_by_the_environment(clone: Path) -> None:
    """Its loss is trained with in two processes and swept; its source is part of what the checkpoint was made from."""
    variables = {"PYTHONPATH": FOLDER, "IREXP_PACKAGES": "another, my_losses"}
    summary = follow(clone, OUTSIDE, "machine=cpu", "machine.devices=2", variables=variables)
    loss = made_from(summary)["loss"]
    assert re.fullmatch("my_losses.hinge.Hinge of source [0-9a-f]{16}", loss["_target_"])
    (arguments,) = commands_of(OUTSIDE)
    name = Path(summary["stages"][-1]["path"]).name
    status, printed, _ = run(clone, ["-m", *arguments, "seed=42,43", "dry_run=true"], variables)
    assert status == 0 and len(re.findall(name, printed)) == 1, printed
    with (clone / FOLDER / "my_losses" / "hinge.py").open("a", encoding="utf8") as file:
        file.write("# changed\n")
    status, printed, _ = run(clone, [*arguments, "dry_run=true"], variables)
    assert status == 0 and "checkpoint/sbert" in printed and name not in printed, printed
    folder = [f"--config-dir={FOLDER}/my_losses/conf", "loss=our_hinge", "loss.margn=1", "stage=fit"]
    status, printed, _ = run(clone, folder, variables)
    assert status == 1 and "did you mean margin?" in printed, printed


@pytest.mark.slow
def test_an_installed_package_declares_itself(clone: Path) -> None:
    """By its entry point; its version is part of what the checkpoint was made from.

    Other experiments of the job find its options, and so does the command that makes the checkpoint again.
    """
    target = clone / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(clone / FOLDER)], check=True, capture_output=True, text=True)
    variables = {"PYTHONPATH": str(target)}
    summary = follow(clone, OUTSIDE, variables=variables)
    assert made_from(summary)["loss"] == {"_target_": "my_losses.hinge.Hinge of my-losses 0.1.0", "margin": 0.2}
    (arguments,) = commands_of(OUTSIDE)
    others = ["model=mono", 're_rank.candidates=["model=sbert","loss=our_hinge"]', "stage=all", "dry_run=true"]
    status, printed, _ = run(clone, [*arguments, *others], variables)
    assert status == 0 and "baseline" in printed and "candidates" in printed, printed
    name = Path(summary["stages"][-1]["path"]).name
    status, printed, _ = run(clone, ["stage=show", f"stage.show.of=checkpoint/{name}"], variables)
    assert status == 0 and "it leads to the same artifact" in printed, printed
    assert "python run.py 'hydra.searchpath=[pkg://my_losses.conf]'" in printed
