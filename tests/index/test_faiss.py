"""Faiss: structures that are refused before anything is encoded, later errors, and searches on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irexp.index import faiss_structure
from irexp.index.binary import Binary, BinarySearch
from irexp.index.faiss_index import Faiss, FaissSearch
from irexp.index.faiss_structure import import_faiss
from irexp.index.index import Index
from irexp.index.muvera import Muvera
from irexp.index.token_retrieval import TokenRetrieval
from irexp.index.vectors import TokenVectors
from irexp.types import UserError
from tests.engines import ENGINES, built, encode, vectors_of


def random(rows: int, dim: int) -> NDArray[np.float32]:
    """Random vectors without clusters."""
    return np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("factory", "fewest"),
    [
        ("IVF16,Flat", 16),
        ("PQ2x4", 16),
        ("IVF4_HNSW8,PQ2x4", 16),
        ("SQ8,Refine(PQ2x5)", 32),
        ("RQ2x6", 64),
        ("IVF4,RQ2x6", 64),
        ("PRQ2x2x6", 64),
        ("OPQ2,PQ2x4", 256),
        ("PCA6,SQ8", 6),
    ],
)
def test_too_few_training_vectors_are_refused_before_the_encoding(tmp_path: Path, factory: str, fewest: int) -> None:
    """With one vector too few `check` fails; with the smallest number the index is built."""
    with pytest.raises(UserError, match=f"from {fewest - 1} vectors, which are too few"):
        Faiss(factory).check(fewest - 1, 8)
    built(Faiss(factory), encode(tmp_path / "encoding", random(fewest, 8)), tmp_path / "index")


#: One factory string per combination of faiss structures, all of which rank by inner product.
STRINGS = """
Flat SQ8 SQ4 SQ6 SQfp16 SQbf16 PQ8x4 PQ8x4np PQ8x4fs PQ4 RQ4x4 RQ4x4_Nqint8 RQ4x4fs LSQ4x4 LSQ4x4fs PRQ2x2x4 PLSQ2x2x4
PRQ2x2x4fs PLSQ2x2x4fs RaBitQ RaBitQ4 RaBitQfs RaBitQfs4 FlatIPPanorama4 Pad40,Flat L2norm,Flat PCA8,SQ8 PCAR8,Flat
PCAW8,Flat RR8,Flat HR16,Flat ITQ8,SQ8 OPQ8,PQ8x4 OPQ8_8,PQ8x4fs HNSW HNSW16 HNSW16,Flat HNSW16,SQ8 HNSW16_SQ4
IVF16,Flat IVF16,FlatDedup IVF16,FlatPanorama4 IVF16,SQ8 IVF16,SQfp16 IVF16,PQ8x4 IVF16,PQ8x4np IVF16,PQ8x4fs
IVF16,PQ8x4fsr IVF16,PQ8x4fsr_64 IVF16,RQ4x4 IVF16,LSQ4x4 IVF16,PRQ2x2x4 IVF16,PLSQ2x2x4 IVF16,RQ4x4fs IVF16,RQ4x4fsr
IVF16,LSQ4x4fsr IVF16,PRQ2x2x4fsr IVF16,PLSQ2x2x4fsr IVF16,RaBitQ IVF16,RaBitQ4 IVF16,RaBitQfs IVF16,RaBitQfs4
IVF16_HNSW,Flat IVF16_HNSW8,PQ8x4fsr IVF16(PQ2x4),Flat IVF16(SQ8),Flat IVF16(RCQ2x2),Flat IVF16(HNSW8),SQ8
IVF16(HNSW8,SQ8),Flat Flat,RFlat SQ4,Refine(SQ8) SQ4,Refine(PQ8x4) SQ4,Refine(HNSW8,SQ8) SQ4,Refine(PCA8,Flat)
SQ4,Refine(RaBitQ4) PQ8x4,RFlat HNSW16,SQ4,RFlat IVF16,PQ8x4fs,RFlat IVF16,PQ8x4fsr,Refine(SQ8)
OPQ8,IVF16_HNSW8,PQ8x4fs,RFlat L2norm,HNSW16,SQ8 PCA8,IVF16,SQ8
"""
RANKING = STRINGS.split()

BY_DISTANCE, BY_BATCH = "always compares by distance", "does not accept vectors batch by batch"
BY_ROW = "single documents again"

REFUSED = {
    "HNSW16,PQ8x4": f"IndexHNSWPQ {BY_DISTANCE}",
    "HNSW16_PQ8x4np": f"IndexHNSWPQ {BY_DISTANCE}",
    "PCA8,HNSW16,PQ4x4": f"IndexHNSWPQ {BY_DISTANCE}",
    "HNSW16,PQ8x4,RFlat": f"metric_type|{BY_DISTANCE}",
    "HNSW16_2+PQ8": BY_DISTANCE,
    "HNSW16_2x3+PQ8": BY_DISTANCE,
    "IVF16(HNSW8,PQ8x4),Flat": f"IndexHNSWPQ {BY_DISTANCE}",
    "IVF16,ITQ8,SH": f"IndexIVFSpectralHash {BY_DISTANCE}",
    "IVF16,PCA8,SH2g": f"IndexIVFSpectralHash {BY_DISTANCE}",
    "ZnLattice2x8_8": f"IndexLattice {BY_DISTANCE}",
    "LSH": "no such index for inner products",
    "ITQ8,LSHt": "no such index for inner products",
    "IVF16(LSH),Flat": "no such index for inner products",
    "IMI2x3,Flat": "no such index for inner products",
    "IVF16,PQ8+8": "no such index for inner products",
    "Residual2x4,PQ8x4": "no such index for inner products",
    "FlatL2Panorama4": "no such index for inner products",
    "SQ8_direct": "IndexScalarQuantizer stores integers",
    "IVF16,SQ8_direct": "stores integers",
    "HNSW16,SQ8_direct_signed": "stores integers",
    "NSG16": BY_BATCH,
    "NSG16,Flat": BY_BATCH,
    "NSG16,SQ8": BY_BATCH,
    "NSG16,PQ8x4": BY_BATCH,
    "IVF16_NSG8,Flat": BY_BATCH,
    "IDMap,Flat": BY_BATCH,
    "Flat,IDMap2": BY_BATCH,
    "IDMap,IVF4,Flat": BY_BATCH,
    "SQ4,Refine(IDMap,Flat)": BY_BATCH,
    "MinMax,SQ8": BY_BATCH,
    "MinMaxFP16,SQ8": BY_BATCH,
    "RCQ2x3": "finds clusters and stores no vectors",
    "PCA8,LSCQ2x3": "finds clusters and stores no vectors",
    "SQ4,Refine(IVF16,SQ8)": f"IndexIVFScalarQuantizer .*{BY_ROW}",
    "SQ4,Refine(PQ8x4fs)": BY_ROW,
    "SQ4,Refine(RQ4x4fs)": BY_ROW,
    "SQ4,Refine(RaBitQfs)": BY_ROW,
    "SQ4,Refine(SQ8,RFlat)": BY_ROW,
    "SQ4,Refine(PCA8,IVF16,SQ8)": BY_ROW,
    "SQ4,Refine(FlatIPPanorama4)": BY_ROW,
    "SQ4,RefinePanorama(SQ8)": "RefinePanorama",
    "IVF16(SQ4,Refine(IVF2,SQ8)),Flat": BY_ROW,
}


def whole(factory: str) -> FaissSearch:
    """Exhaustive search settings for 600 documents."""
    return FaissSearch(
        probes=64 if "IVF" in factory else None,  # more than the number of lists, so all of them
        ef=600 if factory.removeprefix("L2norm,").startswith("HNSW") else None,
        candidates=600 if "Refine" in factory or "RFlat" in factory else None,
    )


@pytest.mark.parametrize("factory", RANKING)
def test_an_accepted_structure_ranks_by_inner_product(tmp_path: Path, factory: str) -> None:
    """With exhaustive settings its ten results are near the top of the exact ranking, for any lengths of vectors.

    Codes of a few bits lose some of the ten; a structure that compares by L2 or at random finds any documents.
    """
    generator = np.random.default_rng(1)
    length_N1 = generator.uniform(0.3, 3, size=(600, 1)).astype(np.float32)
    query_BH = generator.standard_normal((20, 16)).astype(np.float32)
    unit_NH = random(600, 16) / np.linalg.norm(random(600, 16), axis=1, keepdims=True)
    for name, vector_NH in [("unit", unit_NH), ("any", unit_NH * length_N1)]:
        encoding = encode(tmp_path / name, vector_NH)
        score_BK, row_BK = built(Faiss(factory, search=whole(factory)), encoding, tmp_path / f"{name}-index").search(
            query_BH, 10
        )
        assert (np.diff(score_BK, axis=1) <= 1e-6).all()
        place_BN = np.argsort(np.argsort(-(query_BH @ vector_NH.T), axis=1), axis=1)
        found_BK = np.take_along_axis(place_BN, row_BK, axis=1)
        assert found_BK.mean() < 600 / 5  # 300 for random results, 4.5 for exact ones
        assert (found_BK < 60).mean() > 0.3  # 0.1 for random results


@pytest.mark.parametrize(("factory", "message"), REFUSED.items())
def test_a_structure_that_cannot_rank_by_inner_product_is_refused(factory: str, message: str) -> None:
    """The error names the part, however deeply nested, before anything is encoded."""
    with pytest.raises(UserError, match=message):
        Faiss(factory).check(600, 16)


def test_loading_an_index_by_distance_is_refused(tmp_path: Path) -> None:
    """An index that an earlier version or another program has built is checked, too."""
    faiss = import_faiss()
    index = faiss.index_factory(16, "HNSW16,PQ4x4")
    index.train(random(100, 16))
    faiss.write_index(index, str(tmp_path / "vectors.faiss"))
    with pytest.raises(UserError, match="HNSW16,PQ4x4: its IndexHNSWPQ always compares by distance"):
        Faiss("HNSW16,PQ4x4").load(tmp_path)


def test_errors_of_faiss_become_user_errors(tmp_path: Path) -> None:
    """Failed training and a truncated file raise a UserError with the setting or file."""
    encoding = encode(tmp_path / "encoding", random(40, 8))
    (tmp_path / "index").mkdir()
    with pytest.raises(UserError, match=r"IVF4\(PQ2x4\),Flat cannot be learned from 40 vectors"):
        Faiss("IVF4(PQ2x4),Flat").build(encoding, tmp_path / "index")
    Faiss("Flat").build(encoding, tmp_path / "index")
    path = tmp_path / "index" / "vectors.faiss"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"vectors\.faiss is damaged"):
        Faiss("Flat").load(tmp_path / "index")


def test_the_training_sample_of_tokens_is_large_enough(tmp_path: Path) -> None:
    """Documents of different lengths are drawn until they have at least as many tokens as clusters are needed."""
    lengths = np.random.default_rng(0).integers(0, 9, size=400)
    documents = TokenVectors(random(int(lengths.sum()), 8), np.concatenate([[0], np.cumsum(lengths)]))
    encoding = encode(tmp_path / "encoding", documents)
    for seed in range(4):
        engine = TokenRetrieval(Faiss("IVF{lists},Flat", lists=350, sample=350), seed=seed)
        assert len(built(engine, encoding, tmp_path / str(seed))) == 400


class OnGpu:
    """An index that records its searches."""

    def __init__(self, index: Any) -> None:
        """Wrap an index on the CPU."""
        self.index, self.depths, self.set = index, list[int](), dict[str, float]()

    def search(self, query_BH: NDArray[Any], depth: int) -> Any:
        """Search on the CPU."""
        self.depths.append(depth)
        return self.index.search(query_BH, depth)


class OnGpuSpace:
    """Sets parameters of an `OnGpu`."""

    def set_index_parameter(self, index: OnGpu, name: str, value: float) -> None:
        """Record the parameter."""
        index.set[name] = value


@pytest.fixture
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make faiss look as if it was built with GPU support."""
    faiss = import_faiss()
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuParameterSpace", OnGpuSpace, raising=False)
    monkeypatch.setattr(faiss_structure, "_fault_of_gpu", lambda number: None)
    monkeypatch.setattr(faiss, "GpuClonerOptions", SimpleNamespace, raising=False)
    for name in ("index_cpu_to_gpu", "index_binary_cpu_to_gpu"):
        monkeypatch.setattr(faiss, name, lambda resources, device, index, options: OnGpu(index), raising=False)


@pytest.mark.usefixtures("_gpu")
def test_a_gpu_searches_up_to_its_limit_of_results(tmp_path: Path) -> None:
    """Parameters are set on the GPU even after a rotation; more than 2,048 results come from the CPU's index."""
    documents = random(3000, 8)
    engine = Faiss("PCA8,IVF4,Flat", search=FaissSearch(probes=4))
    built(engine, encode(tmp_path / "encoding", documents), tmp_path / "index")
    engine.to(torch.device("cuda"))
    assert engine.search(documents[:2], 10)[0].shape == (2, 10)
    assert engine.search(documents[:2], 2500)[0].shape == (2, 2500)
    assert engine._gpu.depths == [10] and engine._gpu.set == {"nprobe": 4}


@pytest.mark.usefixtures("_gpu")
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("binary", lambda: Binary(search=BinarySearch(20))),
        ("faiss_ivf_pq", lambda: Faiss("IVF2,PQ2x4,RFlat", search=FaissSearch(probes=2, candidates=30))),
        ("faiss_sq", lambda: Faiss("SQ8,RFlat")),
        ("muvera", lambda: Muvera(Faiss("Flat"), repetitions=2, signs=2)),
        ("xtr", lambda: TokenRetrieval(Faiss("Flat"))),
    ],
)
def test_engines_that_use_faiss_move_it_to_the_gpu(tmp_path: Path, name: str, engine: Callable[[], Any]) -> None:
    """Searches run on the GPU's copy, with the same results."""
    case = ENGINES[name]
    encoding, queries = encode(tmp_path / "encoding", vectors_of(case, 60, 0)), vectors_of(case, 5, 1)
    index: Index = built(engine(), encoding, tmp_path / "index")
    before = index.search(queries, 10)
    index.to(torch.device("cuda"))
    for one, other in zip(before, index.search(queries, 10), strict=True):
        np.testing.assert_array_equal(one, other)
    moved: Any = getattr(index, "_engine", index)
    assert moved._gpu.depths


@pytest.mark.usefixtures("_gpu")
@pytest.mark.parametrize("engine", [lambda: Binary(), lambda: Faiss("SQ8,RFlat")])
def test_an_index_that_cannot_move_to_the_gpu_is_searched_on_the_cpu_with_a_warning(
    tmp_path: Path, engine: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the GPU's memory is too small or the structure unsupported, there is one warning, and results are the same."""

    def refuse(*_: Any) -> None:
        raise RuntimeError(
            "Error in virtual void* allocMemory() at StandardGpuResources.cpp:518: Error: 'cudaMalloc'\n"
        )

    for name in ("index_cpu_to_gpu", "index_binary_cpu_to_gpu"):
        monkeypatch.setattr(import_faiss(), name, refuse, raising=False)
    encoding = encode(tmp_path / "encoding", random(60, 8))
    index: Index = built(engine(), encoding, tmp_path / "index")
    before = index.search(random(5, 8), 10)
    index.to(torch.device("cuda"))
    for one, other in zip(before, index.search(random(5, 8), 10), strict=True):
        np.testing.assert_array_equal(one, other)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.message.endswith("is searched on the CPU: 'cudaMalloc'")


def test_a_faiss_that_crashes_on_this_gpu_is_searched_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The GPU is tried in a separate process, which fails here for lack of GPU support; results are the CPU's."""
    engine = built(Faiss("Flat"), encode(tmp_path / "encoding", random(60, 8)), tmp_path / "index")
    before = engine.search(random(5, 8), 10)
    monkeypatch.setattr(import_faiss(), "StandardGpuResources", object, raising=False)
    faiss_structure._fault_of_gpu.cache_clear()
    engine.to(torch.device("cuda"))
    for one, other in zip(before, engine.search(random(5, 8), 10), strict=True):
        np.testing.assert_array_equal(one, other)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.message.startswith("index.factory=Flat is searched on the CPU: faiss cannot use this GPU (")
    assert "index_cpu_to_gpu" in record.message


def test_a_search_restores_faisss_blas_threshold(tmp_path: Path) -> None:
    """With a changed threshold, training after a search would be many times slower."""
    settings = import_faiss().cvar
    before = settings.distance_compute_blas_threshold
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    index = built(Faiss("Flat"), encode(tmp_path / "encoding", vectors), tmp_path / "index")
    for queries in (1, 40):
        index.search(vectors[:queries], 3)
        assert settings.distance_compute_blas_threshold == before


@pytest.mark.parametrize(
    ("factory", "settings", "name"),
    [
        ("IVF4,Flat", {"lists": 2}, "lists"),
        ("HNSW8,Flat", {"codes": 3}, "codes"),
        ("IVF{lists},PQ4", {"codes": 4}, "codes"),
    ],
)
def test_a_number_without_a_placeholder_is_refused(factory: str, settings: dict[str, Any], name: str) -> None:
    """The index would have another number of clusters or bytes than the one that was given."""
    with pytest.raises(UserError, match=rf"index\.{name}={settings[name]} is not used: .* no placeholder {{{name}}}"):
        Faiss(factory, **settings)
    Faiss("IVF{lists},PQ{codes}x4,RFlat", lists=4, codes=2)


@pytest.mark.parametrize("factory", ["Flat", "HNSW32,Flat", "SQfp16"])
def test_a_sample_for_what_learns_nothing_is_refused(factory: str) -> None:
    """It had no effect; a structure that learns takes it."""
    Faiss("IVF4,Flat", sample=1000).check(1000, 8)
    with pytest.raises(UserError, match=rf"index\.sample=1000: index\.factory={factory} learns nothing from vectors"):
        Faiss(factory, sample=1000).check(1000, 8)
