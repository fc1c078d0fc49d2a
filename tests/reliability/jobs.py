"""Commands on a dozen documents, each in a process that is forked from this one, which has imported everything.

A forked process starts working at once, so that a signal at a random moment hits a stage rather than an import.
"""

from __future__ import annotations

import functools
import gc
import importlib
import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from irexp.config.command_line import check_command_line
from irexp.config.installation import CONF
from irexp.config.resolvers import register_resolvers
from tests.chains import TEXTS, write_collection

ROOT = Path(__file__).parents[2]

#: What a command imports, and what is imported here, before processes are forked.
_IMPORTED = (
    *("bm25s", "faiss", "ir_measures", "lightning", "peft", "scipy.sparse", "transformers.models.bert.modeling_bert"),
    *(f"irexp.stage.{path.stem}" for path in sorted((ROOT / "irexp" / "stage").glob("[a-z]*.py"))),
    *("irexp.training.trainer", "irexp.model.load", "irexp.config.command_line"),
)

#: The log of a command, in its folder.
LOG = "log.txt"


def write_queries(folder: Path) -> Path:
    """A collection with queries to train on, to validate on and to test with."""
    queries = {f"q{number}": text.removeprefix("how to ") for number, text in enumerate(TEXTS)}
    lines = [f"q{number}\td{number}\t1\n" for number in range(len(TEXTS))]
    return write_collection(
        folder, queries, {"train": "".join(lines[:8]), "dev": "".join(lines[6:10]), "test": "".join(lines[4:])}
    )


def command(collection: Path, *more: str) -> list[str]:
    """The arguments of a command that stores artifacts and output below the folder that it is started in."""
    return [
        *more,  # first, since a flag may not stand between overrides
        "dataset=local",
        f"dataset.path={collection}",
        "paths.artifacts=artifacts",
        "hydra.run.dir=output",
        "hydra.sweep.dir=output",
        "machine.progress=false",
        "machine.threads=1",
        *(() if any(each.startswith("baselines=") for each in more) else ("baselines=[]",)),
    ]


@functools.cache
def prepare() -> None:
    """Import what commands import, and read the option files and the source of components that they check."""
    for module in _IMPORTED:
        importlib.import_module(module)
    register_resolvers()
    check_command_line(["stage=all"], CONF)


def start(folder: Path, arguments: Sequence[str]) -> BaseProcess:
    """Start a command in a folder, in a process of its own; its log is added to the folder's."""
    prepare()
    gc.freeze()  # otherwise the first collection of a forked process copies all of this one's memory
    folder.mkdir(parents=True, exist_ok=True)
    job = multiprocessing.get_context("fork").Process(target=_run, args=(folder, list(arguments)))
    job.start()
    return job


def finish(folder: Path, arguments: Sequence[str]) -> int:
    """Run a command in a folder, and return its exit status."""
    job = start(folder, arguments)
    job.join()
    assert job.exitcode is not None
    return job.exitcode


def _run(folder: Path, arguments: list[str]) -> None:
    torch.set_num_threads(1)
    with (folder / LOG).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(folder)
    sys.argv = ["run.py", *arguments]
    sys.path.insert(0, str(ROOT))
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
