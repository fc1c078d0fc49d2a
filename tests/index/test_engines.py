"""Properties that every engine has, against the naive engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from irexp.index.faiss_index import Faiss
from irexp.index.index import Index
from irexp.index.muvera import Muvera
from irexp.index.ranking import rank
from irexp.index.shards import EncodedDocuments
from irexp.index.token_retrieval import TokenRetrieval
from irexp.index.vectors import TokenVectors, Vectors
from irexp.types import UserError
from tests.engines import COUNT, ENGINES, IDS, built, encode, exact, named, vectors_of

engines = named(ENGINES)


@engines
@pytest.mark.parametrize("depth", [1, 10, COUNT, 1000])
def test_with_exhaustive_settings_every_engine_is_exact(tmp_path: Path, name: str, depth: int) -> None:
    """Rankings equal the naive ones with ties by id, for any depth, even beyond the collection."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    found = rank(index, queries, depth, doc_ids=IDS)
    assert found == rank(exact(case, documents), queries, depth, doc_ids=IDS)
    assert any(found)


@engines
def test_excluded_documents_are_left_out_of_results(tmp_path: Path, name: str) -> None:
    """The ranking equals that of all documents without the excluded ones, however many they are."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    excluded = set(IDS[::3] + IDS[: COUNT // 2])
    everything = rank(index, queries, COUNT, doc_ids=IDS)
    kept = [[result for result in ranking if result[0] not in excluded][:10] for ranking in everything]
    assert rank(index, queries, 10, doc_ids=IDS, excluded=excluded) == kept
    assert any(kept)


@pytest.mark.parametrize("name", ["torch_dense", "torch_dense_bfloat16", "sparse", "maxsim", "maxsim_bfloat16"])
def test_results_do_not_depend_on_the_block_size(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny blocks, so that this collection has many, rankings are still exact."""
    for module, constant, value in [
        ("torch_dense", "_BLOCK", 70),
        ("torch_dense", "_NEIGHBOURS", 4),
        ("sparse", "_BLOCK", 64),
        ("maxsim", "_BLOCK_TOKENS", 16),
        ("maxsim", "_QUERY_TOKENS", 8),
        ("maxsim", "_HELD", 32),
        ("maxsim", "_COPIED", 50),
        ("shards", "_BATCH_VALUES", 256),
    ]:
        monkeypatch.setattr(f"irexp.index.{module}.{constant}", value)
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    for depth in (3, 40):
        assert rank(index, queries, depth, doc_ids=IDS) == rank(exact(case, documents), queries, depth, doc_ids=IDS)


@pytest.mark.parametrize("name", [name for name, case in ENGINES.items() if case.kind == "dense"] + ["naive"])
def test_equal_documents_have_equal_scores_in_any_batch(tmp_path: Path, name: str) -> None:
    """A query alone has the results it has in a batch of 32, and duplicate documents are ordered by id."""
    generator = np.random.default_rng(0)
    documents, queries = (generator.standard_normal((rows, 128)).astype(np.float32) for rows in (900, 32))
    documents[300:600] = documents[:300]
    ids = [f"{number:03}" for number in range(900)]
    case = ENGINES["faiss_flat" if name == "naive" else name]
    index = exact(case, documents)
    if name != "naive":
        index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    together = rank(index, queries, 20, doc_ids=ids)
    assert together == [rank(index, queries[row : row + 1], 20, doc_ids=ids)[0] for row in range(32)]
    twins = [
        (int(one), int(other), score == next_score)
        for ranking in together
        for (one, score), (other, next_score) in pairwise(ranking)
        if abs(int(one) - int(other)) == 300 and min(one, other) < "300"
    ]
    assert len(twins) > 32 and all(one < other and is_equal for one, other, is_equal in twins)


@engines
def test_approximate_results_are_valid(tmp_path: Path, name: str) -> None:
    """Rows are in the collection, unique and best first, never of empty documents; -1 goes with a score of -inf."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    index = built(case.approximate(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    score_BK, row_BK = index.search(queries, 30)
    assert score_BK.shape == row_BK.shape == (20, 30)
    assert np.isneginf(score_BK[row_BK < 0]).all() and np.isfinite(score_BK[row_BK >= 0]).all()
    assert row_BK.max() < COUNT and row_BK.min() >= -1
    for scores, rows in zip(score_BK, row_BK, strict=True):
        found = rows[rows >= 0]
        assert len(set(found.tolist())) == len(found) and (rows[len(found) :] == -1).all()
        assert (np.diff(scores[: len(found)]) <= 1e-5).all()
    if isinstance(documents, TokenVectors):
        empty = set(np.flatnonzero(np.diff(documents.starts_N1) == 0).tolist())
        assert not empty & set(row_BK.ravel().tolist())


@named(name for name, case in ENGINES.items() if case.kind != "sparse")
def test_scores_may_all_be_negative(tmp_path: Path, name: str) -> None:
    """Documents with negative scores are results and rank before no result."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0, signs="positive")
    queries = vectors_of(case, 8, 1, signs="negative")
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    found = rank(index, queries, 5, doc_ids=IDS)
    assert found == rank(exact(case, documents), queries, 5, doc_ids=IDS)
    if name != "coil":  # whose maxima over equal tokens are at least zero
        assert all(score < 0 for ranking in found for _, score in ranking)


@pytest.mark.parametrize("name", ["sparse", "seismic", "milvus_sparse"])
def test_a_query_without_a_term_has_no_result(tmp_path: Path, name: str) -> None:
    """A query whose terms occur in no document has none either."""
    case = ENGINES[name]
    documents = scipy.sparse.csr_array(np.eye(12, dtype=np.float32)[:10])
    queries = scipy.sparse.csr_array(np.eye(12, dtype=np.float32)[[11, 3]] * [[1], [0]] + 0)
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert rank(index, scipy.sparse.csr_array(queries.astype(np.float32)), 5, doc_ids=IDS) == [[], []]


@named(name for name, case in ENGINES.items() if case.kind != "dense")
def test_a_collection_of_empty_documents_has_no_result(tmp_path: Path, name: str) -> None:
    """An index of documents without terms or tokens can be built, loaded and searched."""
    case = ENGINES[name]
    queries = vectors_of(case, 8, 1)
    documents: Vectors = scipy.sparse.csr_array(np.zeros((9, 12), np.float32))
    if isinstance(queries, TokenVectors):
        ids = None if queries.token_ids_T is None else queries.token_ids_T[:0]
        documents = TokenVectors(queries.vectors_TH[:0], np.zeros(10, np.int64), ids)
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    assert not any(rank(index, queries, 5, doc_ids=IDS))


@named(name for name, case in ENGINES.items() if case.kind == "tokens")
def test_empty_documents_do_not_displace_others(tmp_path: Path, name: str) -> None:
    """Documents with negative scores are found even if most documents are empty."""
    case = ENGINES[name]
    documents = vectors_of(case, 50, 0, signs="positive")
    assert isinstance(documents, TokenVectors)
    starts = np.concatenate([documents.starts_N1, np.full(COUNT - 50, documents.starts_N1[-1])])
    crowded = TokenVectors(documents.vectors_TH, starts, documents.token_ids_T)
    queries = vectors_of(case, 8, 1, signs="negative")
    index = built(case.exhaustive(), encode(tmp_path / "encoding", crowded), tmp_path / "index")
    assert rank(index, queries, 10, doc_ids=IDS) == rank(exact(case, crowded), queries, 10, doc_ids=IDS)


#: Seismic's package has no seed, and files of Milvus hold times; tests/index/test_milvus.py compares its results.
repeatable = pytest.mark.parametrize("name", [name for name in ENGINES if not name.startswith(("seismic", "milvus"))])


@repeatable
def test_building_is_deterministic(tmp_path: Path, name: str) -> None:
    """The same vectors make the same bytes, however they are sharded, and the same search gives the same results."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    first = built(case.approximate(), encode(tmp_path / "e1", documents), tmp_path / "i1")
    second = built(case.approximate(), encode(tmp_path / "e2", documents, shards=1), tmp_path / "i2")
    assert digests(tmp_path / "i1") == digests(tmp_path / "i2")
    for one, other in zip(first.search(queries, 10), second.search(queries, 10), strict=True):
        np.testing.assert_array_equal(one, other)


@repeatable
def test_a_killed_build_resumes(tmp_path: Path, name: str) -> None:
    """After a kill between two batches, building again gives the same bytes as an uninterrupted build."""
    case = ENGINES[name]
    encoding = encode(tmp_path / "encoding", vectors_of(case, COUNT, 0))
    built(case.approximate(), encoding, tmp_path / "whole")
    kill(case.approximate(), encoding, tmp_path / "killed")
    case.approximate().build(encoding, tmp_path / "killed")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@engines
def test_documents_are_added_to_a_finished_index(tmp_path: Path, name: str) -> None:
    """The added documents are found, and with exhaustive settings the results are exact."""
    case = ENGINES[name]
    documents, queries = vectors_of(case, COUNT, 0), vectors_of(case, 20, 1)
    encoding = encode(tmp_path / "encoding", documents)
    for engine, folder in ((case.exhaustive(), tmp_path / "whole"), (case.approximate(), tmp_path / "little")):
        built(engine, encoding.part(0, 200), folder)
        engine.build(encoding, folder)
        engine.load(folder)
        assert len(engine) == COUNT
        found = rank(engine, queries, 20, doc_ids=IDS)
        assert {doc_id for ranking in found for doc_id, _ in ranking} & set(IDS[200:])
        if folder.name == "whole":
            assert found == rank(exact(case, documents), queries, 20, doc_ids=IDS)


def test_a_folder_with_more_documents_is_refused(tmp_path: Path) -> None:
    """An index with more documents than the encoding belongs to another collection."""
    case = ENGINES["torch_dense"]
    encoding = encode(tmp_path / "encoding", vectors_of(case, COUNT, 0))
    built(case.exhaustive(), encoding, tmp_path / "index")
    with pytest.raises(UserError, match="has 300 documents and the encoding only 200"):
        case.exhaustive().build(encoding.part(0, 200), tmp_path / "index")


@pytest.mark.parametrize("name", ["xtr", "muvera"])
def test_a_killed_build_resumes_with_rounded_means(tmp_path: Path, name: str) -> None:
    """Pooled means are rounded to the stored precision before they are added, or a resumed index would differ."""
    vectors = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
    documents = TokenVectors(vectors, np.arange(0, 601, 6))
    encoding = encode(tmp_path / "encoding", documents, dtype="float16")
    engines: dict[str, Callable[[], Index]] = {
        "xtr": lambda: TokenRetrieval(Faiss("Flat"), pool_factor=2),
        "muvera": lambda: Muvera(Faiss("Flat"), repetitions=2, signs=2, pool_factor=2),
    }
    built(engines[name](), encoding, tmp_path / "whole")
    kill(engines[name](), encoding, tmp_path / "killed")
    engines[name]().build(encoding, tmp_path / "killed")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("name", ["maxsim", "coil"])
def test_a_kill_during_the_removal_of_unsorted_vectors_is_harmless(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the last step of a build is interrupted, building again gives the same bytes."""
    case = ENGINES[name]
    encoding = encode(tmp_path / "encoding", vectors_of(case, COUNT, 0))
    built(case.exhaustive(), encoding, tmp_path / "whole")

    def remove_one(folder: Path, **_: object) -> None:
        next(folder.glob("*.bin")).unlink()
        raise KeyboardInterrupt

    (tmp_path / "killed").mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", remove_one)
        case.exhaustive().build(encoding, tmp_path / "killed")
    case.exhaustive().build(encoding, tmp_path / "killed")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("name", ["faiss_flat", "plaid", "xtr", "muvera"])
def test_a_kill_while_documents_are_added_does_not_lose_any(tmp_path: Path, name: str) -> None:
    """Documents that were stored but not yet in the faiss index are added by the next build."""
    case = ENGINES[name]
    encoding = encode(tmp_path / "encoding", vectors_of(case, COUNT, 0))
    for folder in ("whole", "killed"):
        built(case.exhaustive(), encoding.part(0, 120), tmp_path / folder)
    kill(case.exhaustive(), encoding, tmp_path / "killed", after=150)
    for folder in ("whole", "killed"):
        case.exhaustive().build(encoding, tmp_path / folder)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_equal_documents_have_equal_scores_with_token_ids(tmp_path: Path) -> None:
    """The bits of a score do not depend on a document's position among the vectors of a token."""
    generator = np.random.default_rng(0)
    document_H, query_QH = (generator.standard_normal((rows, 33)).astype(np.float32) for rows in (1, 5))
    documents = TokenVectors(np.repeat(document_H, 299, axis=0), np.arange(300), np.zeros(299, np.int32))
    queries = TokenVectors(query_QH, np.arange(6), np.zeros(5, np.int32))
    case = ENGINES["coil"]
    for index in (exact(case, documents), built(case.exhaustive(), encode(tmp_path / "e", documents), tmp_path / "i")):
        for ranking in rank(index, queries, 299, doc_ids=IDS):
            assert len({score for _, score in ranking}) == 1


@pytest.mark.parametrize("name", ["faiss_flat", "torch_dense", "naive"])
def test_rounding_does_not_lose_a_result(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best document is returned even if the matrix product ranks it lower."""
    case = ENGINES["faiss_flat" if name == "naive" else name]
    documents = np.array([[1], [2], [3], [4]], np.float32)
    index = exact(case, documents)
    if name != "naive":
        index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    order = np.array([[2, 3, 1, 0]])
    monkeypatch.setattr(Faiss, "find", lambda self, queries, depth: (order, order[:, :depth]))
    wrong = torch.from_numpy(order)
    monkeypatch.setattr("irexp.index.torch_dense.best_products", lambda query, vector, depth: (wrong, wrong[:, :depth]))
    monkeypatch.setattr("irexp.index.exact.top", lambda scores, depth: order[0, :depth])
    assert index.search(np.ones((1, 1), np.float32), 1)[1].tolist() == [[3]]


def kill(index: Index, encoding: EncodedDocuments, folder: Path, *, after: int = 50) -> None:
    """Build until more than `after` documents are added, but not all."""
    folder.mkdir(exist_ok=True)
    added: list[int] = []

    def advance(documents: int) -> None:
        added.append(documents)
        if sum(added) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.build(encoding, folder, advance)
    assert sum(added) < len(encoding)


@engines
def test_folders_and_queries_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    """A folder of another engine, or queries of another checkpoint, are errors that say so."""
    case = ENGINES[name]
    documents = vectors_of(case, COUNT, 0)
    index = built(case.exhaustive(), encode(tmp_path / "encoding", documents), tmp_path / "index")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="was not built by"):
        case.exhaustive().load(tmp_path / "empty")
    with pytest.raises(UserError, match="use the checkpoint that encoded the documents"):
        index.search(narrow(documents), 3)


def narrow(vectors: Vectors) -> Vectors:
    """Vectors with fewer dimensions."""
    if isinstance(vectors, TokenVectors):
        return TokenVectors(vectors.vectors_TH[:, :4], vectors.starts_N1, vectors.token_ids_T)
    return scipy.sparse.csr_array(vectors[:, :4]) if scipy.sparse.issparse(vectors) else vectors[:, :4]


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
