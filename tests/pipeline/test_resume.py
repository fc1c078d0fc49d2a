"""A killed encoding or re-ranking loses the work of seconds, and ends with the bytes of one that was not killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irexp.config.schema import Machine
from irexp.dataset.sources import open_documents
from irexp.index import parts
from irexp.index.parts import Parts
from irexp.index.shards import EncodedDocuments, ShardWriter, write_shard
from irexp.model.batching import TokenBudget
from irexp.model.model import Model
from irexp.pipeline.component import component
from irexp.pipeline.encode import check_bi_encoder, write_encoding
from irexp.pipeline.new_model import new_model
from irexp.pipeline.re_rank import Candidates, _scores, score_candidates
from irexp.types import Query
from tests.chains import TEXTS


class KilledError(Exception):
    """Stands for the death of a process."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Batches of three short documents, shards of eight; each finished batch is saved at once."""
    monkeypatch.setattr(parts, "SAVE_EVERY", 0.0)
    settings = {"accelerator": "cpu", "threads": 1, "progress": False, "query_batch": 2}
    found = component("machine", **settings, shard_size=8, token_budget=30)
    assert isinstance(found, Machine)
    return found


@pytest.fixture
def model_of(folders: dict[str, Path]) -> Callable[[str], Model]:
    """An untrained model of a family."""
    return lambda option: new_model(option, backbone=str(folders["encoder"]))


@contextmanager
def calls_of(model: Model, *, dies_at: int | None = None) -> Iterator[list[int]]:
    """Count the batches of a model; the one of the given number, from 1, kills it."""
    calls: list[int] = []
    pad: Callable[..., object] = model.pad  # type: ignore[assignment]

    def counted(*arguments: object, **settings: object) -> object:
        calls.append(len(calls) + 1)
        if len(calls) == dies_at:
            raise KilledError
        return pad(*arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "pad", counted)
        yield calls


def contents(folder: Path) -> dict[str, bytes]:
    """The names and bytes of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("option", ["sbert", "splade", "colbert", "coil"])
def test_a_killed_encoding_resumes_within_a_shard(
    tmp_path: Path, machine: Machine, model_of: Callable[[str], Model], option: str
) -> None:
    """Killed in any batch, the same call encodes only that batch and the later ones, and writes the same files."""
    model, documents, settings = check_bi_encoder(model_of(option)), open_documents(TEXTS), component("encoding")
    whole = tmp_path / "whole"
    whole.mkdir()
    with calls_of(model) as calls:
        write_encoding(model, documents, whole, settings=settings, machine=machine)
    assert len(calls) >= 5
    for dies_at in range(1, len(calls) + 1):
        folder = tmp_path / f"{dies_at}"
        folder.mkdir()
        with calls_of(model, dies_at=dies_at), pytest.raises(KilledError):
            write_encoding(model, documents, folder, settings=settings, machine=machine)
        with calls_of(model) as later:
            assert write_encoding(model, documents, folder, settings=settings, machine=machine) == len(TEXTS)
        assert len(later) == len(calls) - (dies_at - 1)
        assert contents(folder) == contents(whole)


def test_a_killed_encoding_in_int8_resumes(tmp_path: Path, machine: Machine, model_of: Callable[[str], Model]) -> None:
    """The transformer is exported and rounded again, with the same bits; three threads share its copy."""
    model, documents = check_bi_encoder(model_of("sbert")), open_documents(TEXTS)
    settings = component("encoding", precision="int8")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    with calls_of(model) as calls:
        write_encoding(model, documents, tmp_path / "whole", settings=settings, machine=replace(machine, threads=3))
    with calls_of(model, dies_at=3), pytest.raises(KilledError):
        write_encoding(model, documents, tmp_path / "killed", settings=settings, machine=machine)
    with calls_of(model) as later:
        write_encoding(model, documents, tmp_path / "killed", settings=settings, machine=machine)
    assert len(later) == len(calls) - 2
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_number_of_threads_changes_no_byte_of_an_encoding(
    tmp_path: Path, machine: Machine, model_of: Callable[[str], Model]
) -> None:
    """Each batch is computed by one thread; an encoding killed with several threads is resumed with one."""
    model, documents, settings = check_bi_encoder(model_of("sbert")), open_documents(TEXTS), component("encoding")
    found = []
    for threads in (1, 3):
        (folder := tmp_path / f"{threads}").mkdir()
        write_encoding(model, documents, folder, settings=settings, machine=replace(machine, threads=threads))
        found.append(contents(folder))
    (folder := tmp_path / "killed").mkdir()
    with calls_of(model, dies_at=3), pytest.raises(KilledError):
        write_encoding(model, documents, folder, settings=settings, machine=replace(machine, threads=3))
    write_encoding(model, documents, folder, settings=settings, machine=machine)
    assert found[0] == found[1] == contents(folder)


def test_shards_beyond_a_gap_are_kept_if_shards_have_the_same_size(
    tmp_path: Path, machine: Machine, model_of: Callable[[str], Model]
) -> None:
    """Of two processes one was killed in the first shard, when the other had completed the second."""
    model, documents, settings = check_bi_encoder(model_of("sbert")), open_documents(TEXTS), component("encoding")
    folder = tmp_path / "encoding"
    folder.mkdir()
    ShardWriter(folder, dtype="float32", shard_size=8)
    ids = [document.doc_id for document in documents]
    write_shard(folder, 1, ids[8:], np.ones((4, model.embedding_dim), np.float32), dtype="float32")
    write_encoding(model, documents, folder, settings=settings, machine=machine)
    encoding = EncodedDocuments(folder)
    assert list(encoding.ids) == ids
    (vector_NH,) = encoding.part(8, 12).batches()
    assert (np.asarray(vector_NH) == 1).all()  # not encoded again
    (folder / "shard-00000.ids").unlink()
    assert ShardWriter(folder, dtype="float32", shard_size=4).later == {}
    assert not list(folder.glob("shard-00001*"))


def test_a_part_that_cannot_be_read_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after a power failure; the log names the file."""
    (tmp_path / "p-00000.npz").write_bytes(b"PK")
    assert list(Parts(tmp_path / "p").saved()) == []
    assert "p-00000.npz cannot be read" in caplog.text


@pytest.fixture
def rankings() -> list[Candidates]:
    """Five queries with up to nine candidates, in three batches; one has none."""
    return [(Query(f"q{n}", f"how to {n} a song"), [f"{d}" for d in range(n, 3 * n)]) for n in (4, 1, 0, 3, 2)]


@pytest.mark.parametrize("option", ["sbert", "colbert", "mono", "set_encoder"])
def test_a_killed_re_ranking_resumes_within_a_batch_of_queries(
    tmp_path: Path, machine: Machine, model_of: Callable[[str], Model], rankings: list[Candidates], option: str
) -> None:
    """Killed in any batch of texts, the same call makes the same run, and at most the queries are embedded again."""
    model = model_of(option)
    documents = open_documents({f"{n}": text for n, text in enumerate(TEXTS)})
    with calls_of(model) as calls:
        whole = score_candidates(model, rankings, documents, machine=machine)
    assert len(calls) >= 4
    for dies_at in range(1, len(calls) + 1):
        work = tmp_path / f"{dies_at}"
        with calls_of(model, dies_at=dies_at), pytest.raises(KilledError):
            score_candidates(model, rankings, documents, machine=machine, work=work)
        with calls_of(model) as later:
            assert score_candidates(model, rankings, documents, machine=machine, work=work) == whole
        assert len(later) <= len(calls) - (dies_at - 1) + (1 if option in ("sbert", "colbert") else 0)
        with calls_of(model) as later:
            assert score_candidates(model, rankings, documents, machine=machine, work=work) == whole
        assert not later


@pytest.mark.parametrize("option", ["sbert", "mono", "set_encoder"])
def test_the_progress_of_a_re_ranking_counts_pairs_while_a_batch_is_computed(
    model_of: Callable[[str], Model], rankings: list[Candidates], option: str
) -> None:
    """Several steps per batch of queries, which add up to its pairs; a bi-encoder embeds a shared document once."""
    documents, steps = open_documents({f"{n}": text for n, text in enumerate(TEXTS)}), list[int]()
    _scores(model_of(option), rankings, documents, TokenBudget(30), None, steps.append)
    assert sum(steps) == sum(len(doc_ids) for _, doc_ids in rankings)
    assert len(steps) >= 3
