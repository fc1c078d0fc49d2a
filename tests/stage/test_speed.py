"""What stage=speed does not know it does not report: the memory and the bytes of an index that a server holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irexp.artifact.objective import objective
from irexp.index.faiss_index import Faiss
from irexp.index.index import Index
from irexp.index.milvus import Milvus
from irexp.index.milvus_sparse import MilvusSparse
from irexp.index.muvera import Muvera
from irexp.index.sharded import Sharded
from irexp.index.token_retrieval import TokenRetrieval
from irexp.stage.report import report
from irexp.stage.speed import is_on_server
from irexp.types import UserError
from tests.chains import STAGES, Compose, planned, run, settings
from tests.milvus_server import Server

#: Engines that may be on a server, by what they are.
ENGINES: dict[str, Callable[[str | None], Index]] = {
    "dense": lambda uri: Milvus(uri=uri),
    "sparse": lambda uri: MilvusSparse(uri=uri),
    "tokens": lambda uri: TokenRetrieval(Milvus(uri=uri)),
    "fixed-size vectors": lambda uri: Muvera(Milvus(uri=uri)),
    "parts": lambda uri: Sharded(Milvus(uri=uri), parts=2),
    "parts of tokens": lambda uri: Sharded(TokenRetrieval(Milvus(uri=uri)), parts=2),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Milvus Lite, over the network."""
    running = Server(tmp_path / "server")
    yield running
    running.stop()


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_on_a_server_if_one_that_it_fills_is(name: str) -> None:
    """The address may belong to the engine of its parts, or of its tokens."""
    assert is_on_server(ENGINES[name]("http://localhost:1"))
    assert not is_on_server(ENGINES[name](None))
    assert not is_on_server(Sharded(Faiss("Flat")))


def test_memory_and_bytes_on_a_server_are_missing_in_the_table(
    compose: Compose, tmp_path: Path, collection: Path, server: Server
) -> None:
    """The files here are a record of a few bytes; times and recall are those of the search. The plot leaves it out."""
    remote = settings(tmp_path, collection, "stage=[all,speed]", "index=milvus", f"index.uri={server.uri}")
    here = settings(tmp_path, collection, "stage=[all,speed]", "index=faiss_flat")
    found, whole = (run(compose, each, [*STAGES, "speed"])["speed"].measures for each in (remote, here))
    assert found["ms_one_by_one"] > 0 and found["recall_of_exact"] == 1
    assert set(whole) - set(found) == {"memory_mib", "bytes_per_document"}
    (tmp_path / "output").mkdir()
    config = compose(*here)
    report(tmp_path / "output", rows=None, artifacts=config.paths.artifacts, evaluation=config.evaluation, html=True)
    head, _, *lines = (tmp_path / "output" / "table.speed.md").read_text().splitlines()
    column = head.split("|").index(" bytes_per_document ")
    assert sorted(line.split("|")[column].strip() for line in lines) == ["", f"{whole['bytes_per_document']:,.4g}"]
    assert (tmp_path / "output" / "table.speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_for_the_smallest_index_needs_its_size(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """A sweeper is not told a wrong number."""
    plan = planned(compose, settings(tmp_path, collection), [*STAGES, "speed"])
    step = next(step for step in plan.goals if step.stage is not None and step.stage.name == "speed")
    with pytest.raises(UserError, match=r"^objective: this job measured no bytes_per_document; choose another measure"):
        objective(["bytes_per_document"], plan, {step: {"ms_one_by_one": 2.0}})
    assert objective(["ms_one_by_one"], plan, {step: {"ms_one_by_one": 2.0}}) == 2.0
