"""The structure of a faiss index: its parts, the training vectors they need, and the vectors it keeps."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from irexp.types import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: The most results or clusters per query that faiss supports on a GPU.
GPU_MOST = 2048

#: Attributes that hold an index's inner index, storage or quantizer.
_INNER = ("base_index", "refine_index", "index", "storage", "quantizer")

#: Structures to which vectors cannot be added batch by batch, with alternatives.
_NOT_INCREMENTAL = {
    "IndexIDMap": "rows need no map of ids",
    "IndexNSG": "the graph HNSW32,Flat does",
    "IndexNNDescent": "the graph HNSW32,Flat does",
    "IndexRowwiseMinMax": "SQ8, with eight bits per value, does",
}

#: Structures that find the clusters of an IVF and cannot hold documents.
_ONLY_CLUSTERS = ("ResidualCoarseQuantizer", "LocalSearchCoarseQuantizer")


@functools.cache  # reading the packages' metadata takes longer than a search
def import_faiss() -> Any:
    """The faiss module, if exactly one of its distributions is installed.

    Raises:
        UserError: if there is none, or both are installed, which breaks both.
    """
    found = [name for name in ("faiss-cpu", "faiss-gpu-cu12") if _is_installed(name)]
    if len(found) == 2:
        raise UserError(
            "faiss-cpu and faiss-gpu-cu12 are both installed and overwrite each other; "
            "pip uninstall -y faiss-cpu faiss-gpu-cu12, then pip install the one you want"
        )
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"faiss cannot be imported ({error}); pip install faiss-cpu, or faiss-gpu-cu12") from error
    return faiss


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@contextmanager
def as_user_error(failure: str) -> Iterator[None]:
    """Turn an error of faiss into a UserError that begins with what failed."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).rpartition("Error: ")[2] or str(error)
        raise UserError(f"{failure} ({' '.join(reason.split())})") from error


@contextmanager
def blas_threshold(rows: int) -> Iterator[None]:
    """Make faiss use matrix products from a number of rows; its own threshold is restored afterwards."""
    settings = import_faiss().cvar
    before = settings.distance_compute_blas_threshold
    settings.distance_compute_blas_threshold = rows
    try:
        yield
    finally:
        settings.distance_compute_blas_threshold = before


def make_index(factory: str, dim: int) -> Any:
    """An empty index that ranks by inner product.

    Raises:
        UserError: if faiss cannot parse the string, or the index cannot be used here.
    """
    faiss = import_faiss()
    with as_user_error(f"index.factory={factory}: faiss makes no such index for inner products of {dim} dimensions"):
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    check_structure(index, factory)
    return index


def check_structure(index: Any, factory: str) -> None:
    """Check every part of an index, down to quantizers and storage, for faults that faiss does not check.

    faiss builds some parts for L2 distances whatever the metric, and returns the smallest inner products or largest
    distances; others return random results, fail in search, or crash the process.

    Raises:
        UserError: naming the part, its fault, and an alternative.
    """
    if "RefinePanorama" in factory:  # appears as an IndexRefine in Python, and fails in search
        raise UserError(f"index.factory={factory}: RefinePanorama is not supported; use RFlat or Refine(SQ8)")
    for part, roles in _indexes(index):
        if fault := _fault(part, roles):
            raise UserError(f"index.factory={factory}: its {type(part).__name__} {fault}")


def _fault(part: Any, roles: frozenset[str]) -> str | None:
    """Why a part cannot be used in its role, and an alternative; None if it can."""
    faiss, name = import_faiss(), type(part).__name__
    if instead := next((hint for prefix, hint in _NOT_INCREMENTAL.items() if name.startswith(prefix)), None):
        return f"does not accept vectors batch by batch; {instead}"
    has_own_metric = not isinstance(part, faiss.IndexPreTransform)  # the inner part is named instead
    if has_own_metric and part.metric_type != faiss.METRIC_INNER_PRODUCT:
        return (
            "always compares by distance, and documents are ranked by inner product here; use HNSW32,SQ8 or "
            "IVF{lists},PQ{codes}, which are as small"
        )
    quantizer = faiss.ScalarQuantizer
    if hasattr(part, "sq") and part.sq.qtype in (quantizer.QT_8bit_direct, quantizer.QT_8bit_direct_signed):
        return "stores integers of eight bits, and values of embeddings are fractions; use SQ8"
    if name in _ONLY_CLUSTERS and "quantizer" not in roles:
        return "finds clusters and stores no vectors; use it as in IVF16(RCQ2x2),Flat"
    is_by_row = isinstance(part, faiss.IndexFlatCodes | faiss.IndexHNSW | faiss.IndexPreTransform)
    if "refine_index" in roles and (not is_by_row or "Panorama" in name):
        return "cannot score single documents again; use RFlat or Refine(SQ8)"
    return None


def parts(index: Any) -> list[Any]:
    """An index, its inner indexes, and their product quantizers."""
    return [found for part, _ in _indexes(index) for found in (part, *([part.pq] if hasattr(part, "pq") else []))]


def _indexes(index: Any, roles: frozenset[str] = frozenset()) -> Iterator[tuple[Any, frozenset[str]]]:
    """An index and its inner indexes, each with the attributes that lead to it."""
    faiss = import_faiss()
    if isinstance(index, faiss.IndexBinary):
        yield index, roles
        return
    index = faiss.downcast_index(index)
    yield index, roles
    for name in _INNER:
        if (inner := getattr(index, name, None)) is not None:
            yield from _indexes(inner, roles | {name})


def fewest_training_vectors(index: Any) -> tuple[int, str]:
    """The smallest number of vectors that a structure can be trained on, and what it learns from them."""
    faiss = import_faiss()
    least = [(1, "nothing")]
    for part in parts(index):
        if hasattr(part, "nlist"):
            least.append((part.nlist, f"{part.nlist:,} clusters"))
        if hasattr(part, "ksub"):
            least.append((part.ksub, f"codes of {part.ksub} values"))
        if hasattr(part, "aq"):  # residual, local-search and product-additive quantizers
            values = 2 ** int(faiss.vector_to_array(part.aq.nbits).max(initial=0))
            least.append((values, f"codes of {values} values"))
        if isinstance(part, faiss.IndexPreTransform):
            for place in range(part.chain.size()):
                step = faiss.downcast_VectorTransform(part.chain.at(place))
                if isinstance(step, faiss.PCAMatrix):
                    least.append((step.d_out, f"{step.d_out} directions"))
                if isinstance(step, faiss.OPQMatrix):  # trained by a product quantizer of eight bits
                    least.append((256, "a rotation by codes of 256 values"))
    return max(least, key=lambda pair: pair[0])


#: A search on a GPU, in a separate process: faiss crashes the process if it has no code for the GPU.
_TRIAL = """
import sys, numpy, faiss
index = faiss.IndexFlatIP(8)
index.add(numpy.eye(8, dtype=numpy.float32))
index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), int(sys.argv[1]), index)
assert (index.search(numpy.eye(8, dtype=numpy.float32), 1)[1][:, 0] == numpy.arange(8)).all()
"""


@functools.cache
def _fault_of_gpu(number: int) -> str | None:
    """Why this faiss cannot search on a GPU; None if it can. Wheels of faiss-gpu-cu12 have no code for an H100."""
    tried = subprocess.run([sys.executable, "-c", _TRIAL, str(number)], capture_output=True, text=True, check=False)
    if not tried.returncode:
        return None
    return tried.stderr.strip().rpartition("details: ")[2].rpartition("\n")[2] or f"exit status {tried.returncode}"


def copy_to_gpu(index: Any, device: torch.device, *, name: str) -> Any:
    """A copy of an index on the GPU; None if the device is not a GPU, or faiss was built without GPU support.

    Also None, with a warning, if faiss does not support the structure on a GPU, or the GPU has too little memory.
    """
    faiss = import_faiss()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return None
    number = device.index or 0
    if fault := _fault_of_gpu(number):
        log.warning("%s is searched on the CPU: faiss cannot use this GPU (%s)", name, fault)
        return None
    options = faiss.GpuClonerOptions()
    # look-up tables of 96 codes fit into a GPU's shared memory only in fp16; vectors stay in fp32
    options.useFloat16 = any(hasattr(part, "pq") for part in parts(index))
    clone = faiss.index_binary_cpu_to_gpu if isinstance(index, faiss.IndexBinary) else faiss.index_cpu_to_gpu
    try:
        return clone(faiss.StandardGpuResources(), number, index, options)
    except RuntimeError as error:
        log.warning("%s is searched on the CPU: %s", name, " ".join(str(error).rpartition("Error: ")[2].split()))
        return None


def candidate_index(index: Any) -> Any:
    """The part of an RFlat index that finds candidates; None for any other structure."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefineFlat) else None


def kept_vectors(index: Any) -> NDArray[np.float32] | None:
    """The vectors of a `Flat`, `HNSW…,Flat` or `…,RFlat` index, as a view of its memory; None for other structures."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefineFlat):
        index = faiss.downcast_index(index.refine_index)
    if isinstance(index, faiss.IndexHNSWFlat):  # whose scores in batches of four have other last bits, with AVX2
        index = faiss.downcast_index(index.storage)
    if type(index) not in (faiss.IndexFlat, faiss.IndexFlatIP) or not index.ntotal:  # others reorder vectors
        return None
    vector_NH: NDArray[np.float32] = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return vector_NH.reshape(index.ntotal, index.d)
