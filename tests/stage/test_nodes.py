"""Several processes and nodes make the same artifacts as one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.stage.execute import Outcome
from tests import commands
from tests.chains import Compose, run, settings
from tests.processes import reserved_port, wait_for_all

ROOT = Path(__file__).parents[2]


def contents(outcomes: dict[str, Outcome], stage: str) -> dict[str, bytes]:
    """The files of an artifact, without the JSON files, which hold times."""
    folder = Path(str(outcomes[stage].path))
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".json"
    }


@pytest.mark.slow
def test_processes_and_nodes_make_the_same_encoding_and_index_as_one_process(
    compose: Compose, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process makes every second window and every second part; all files of the artifacts are equal.

    `settings` gives each process one thread, because the default depends on the number of processes. The environment is
    that of a Slurm job with one task, in which every process would seem to be the first and only one.
    """
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    base = settings(tmp_path, collection, "index=sharded", "index.parts=3", "machine.shard_size=5", "machine=cpu")
    stages = ["fit", "encode", "index"]
    alone = run(compose, [*base, f"paths.artifacts={tmp_path / 'alone'}"], stages)
    with reserved_port() as port, monkeypatch.context() as environment:
        environment.setenv("MASTER_PORT", str(port))
        together = run(compose, [*base, f"paths.artifacts={tmp_path / 'together'}", "machine.devices=2"], stages)
    nodes = on_two_nodes([*base, "machine.num_nodes=2", "stage=[fit,index]"], tmp_path)
    assert "encode: helping to make" in nodes[1] and "index: helping to make" in nodes[1]
    shared = run(compose, base, stages)
    assert {outcome.status for outcome in shared.values()} == {"already done"}
    for stage, least in (("encode", 9), ("index", 5)):  # three shards of three files, three parts and the ids
        assert len(contents(alone, stage)) >= least
        assert contents(alone, stage) == contents(together, stage) == contents(shared, stage)


def on_two_nodes(overrides: list[str], folder: Path) -> list[str]:
    """Run the command on two nodes, simulated by processes; return what each printed."""
    outputs = [folder / f"node{rank}.txt" for rank in range(2)]
    with reserved_port() as port:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        nodes = [
            commands.start(
                *(ROOT, [*overrides, f"hydra.run.dir={folder / f'node{rank}'}"], output),
                {**address, "NODE_RANK": str(rank)},
            )
            for rank, output in enumerate(outputs)
        ]
        codes = wait_for_all(nodes)
    printed = [output.read_text() for output in outputs]
    assert codes == [0, 0], printed
    return printed
