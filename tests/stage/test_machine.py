"""The machine of a stage: missing GPUs are refused, and batches respect the limits of memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from irexp.config.limits import CHOICES
from irexp.config.schema import Machine
from irexp.model.batching import TokenBudget
from irexp.model.device import MOST_TOKENS
from irexp.model.model import Model
from irexp.pipeline import machine as machine_module
from irexp.pipeline.machine import check_precision, prepare, token_budget
from irexp.pipeline.re_rank import _batches
from irexp.types import Query, UserError
from tests.chains import Compose, run, settings


def machine(**changes: object) -> Machine:
    """Two GPUs."""
    values: dict[str, object] = {"accelerator": "gpu", "devices": 2, "num_nodes": 1, "strategy": "auto", "threads": 1}
    values |= {"num_workers": 0, "token_budget": 100, "shard_size": 10, "query_batch": 4, "resume_every": 1}
    return Machine(**(values | {"progress": False} | changes))  # type: ignore[arg-type]


def test_more_devices_than_gpus_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Lightning fails later, with a traceback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^machine\.devices=2, but torch sees 1 GPU here; set machine\.devices=1$"):
        prepare(machine())
    assert prepare(machine(devices=1)).type == "cuda"
    assert prepare(machine(accelerator="cpu")).type == "cpu"


@pytest.mark.parametrize(
    ("device", "refused"), [("cpu", ["16-mixed"]), ("cuda", []), ("mps", ["bf16-mixed", "16-mixed"])]
)
def test_a_precision_that_the_device_does_not_train_in_is_refused(device: str, refused: list[str]) -> None:
    """Lightning would train in another one, which no identity says."""
    for precision in CHOICES["training.precision"]:
        if precision in refused:
            with pytest.raises(UserError, match=rf"^training\.precision={precision} would train in \w+ on .*; set "):
                check_precision(precision, torch.device(device))
        else:
            check_precision(precision, torch.device(device))


@pytest.mark.parametrize("trained", [True, False])
def test_fitting_refuses_such_a_precision_before_the_model_is_loaded(
    compose: Compose, tmp_path: Path, collection: Path, trained: bool
) -> None:
    """Without training the precision is not used, and not refused."""
    more = ["training.precision=16-mixed", "machine.accelerator=cpu", "backbone=hugging_face"]
    overrides = settings(tmp_path, collection, *more, f"backbone.name_or_path={tmp_path / 'not-read'}")
    if not trained:
        with pytest.raises(UserError, match="not-read cannot be read"):
            run(compose, overrides, ["fit"])
        return
    (collection / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td0\t1\n")
    with pytest.raises(UserError, match="16-mixed would train in bf16 on a processor"):
        run(compose, [*overrides, "training.steps=1"], ["fit"])


@pytest.mark.parametrize("most", [1, 5, 7, 1000])
def test_re_ranking_batches_hold_a_limited_number_of_candidates(most: int) -> None:
    """Queries keep their order; a query with more candidates than `most` is a batch of its own."""
    rankings = [(Query(f"q{n}", "text"), [f"d{k}" for k in range(n % 7)]) for n in range(20)]
    batches = list(_batches(rankings, 4, most=most))
    assert [pair for batch in batches for pair in batch] == rankings
    assert all(len(batch) <= 4 for batch in batches)
    assert all(sum(len(doc_ids) for _, doc_ids in batch) <= most or len(batch) == 1 for batch in batches)
    if most == 1000:
        assert list(map(len, batches)) == [4] * 5


@pytest.mark.parametrize(("given", "expected"), [("24", 24), ("null", MOST_TOKENS)])
@pytest.mark.parametrize("stages", [["fit", "encode", "index", "search"], ["fit", "re_rank"]])
def test_every_stage_uses_the_machine_token_budget(
    compose: Compose,
    tmp_path: Path,
    collection: Path,
    monkeypatch: pytest.MonkeyPatch,
    stages: list[str],
    given: str,
    expected: int,
) -> None:
    """Otherwise large batches of documents or queries would run out of memory; without one, the device decides."""
    over, used = TokenBudget.map_batches, []

    def spied(budget: TokenBudget, lengths: Sequence[int], work: Callable[[list[int]], object]) -> Iterator[object]:
        used.append(budget.tokens)
        return over(budget, lengths, work)

    monkeypatch.setattr(TokenBudget, "map_batches", spied)
    (tmp_path / "theirs.run").write_text("d0 Q0 d3 1 0.5 x\nd0 Q0 d4 2 0.25 x\n")
    more = [f"re_rank.candidates={tmp_path / 'theirs.run'}", "re_rank.depth=5"] if "re_rank" in stages else []
    run(compose, settings(tmp_path, collection, f"machine.token_budget={given}", "machine=cpu", *more), stages)
    assert used == [expected, expected]


@pytest.mark.parametrize(
    ("changes", "processes", "workers"),
    [
        ({"devices": 1}, 1, 8),
        ({"devices": 1}, 16, 8),
        ({"devices": 2}, 2, 4),
        ({"devices": 2, "num_nodes": 2}, 4, 4),
        ({"devices": 16}, 16, 1),
        ({"devices": 1, "threads": 3}, 1, 3),
    ],
)
def test_the_processes_of_a_machine_share_the_processors_that_they_may_use(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], processes: int, workers: int
) -> None:
    """Eight of 128: the shares of other tasks and the processes of other nodes have processors of their own."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(machine_module, "usable_processors", lambda: 8)
    values = {"accelerator": "cpu", "threads": None, **changes}
    model = cast(Model, SimpleNamespace(width=128))
    assert token_budget(machine(**values), model, torch.device("cpu"), processes).workers == workers


def test_a_stage_leaves_one_of_the_processors_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads of torch, of which every operation waits for the slowest."""
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    for usable in (8, 1):
        monkeypatch.setattr(machine_module, "usable_processors", lambda usable=usable: usable)
        prepare(machine(accelerator="cpu", threads=None))
    assert found == [7, 1]


#: Five times four pieces of 20 MB, and how many pages of memory the system had to give for them.
PIECES = """
import resource
import sys
import numpy as np
from irexp.pipeline.machine import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [np.ones(2_500_000) for _ in range(4)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the call")
def test_the_memory_of_a_step_is_kept_for_the_next_one() -> None:
    """The last of some steps needs no new pages, of which it needs hundreds without the call."""
    found = {}
    for mode in ("kept", "fetched"):
        command = [sys.executable, "-c", PIECES, mode]
        found[mode] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["kept"] * 5 < found["fetched"]
