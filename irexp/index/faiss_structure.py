"""What an index of faiss is made of, by its factory string: its parts, what they learn from, the vectors it keeps."""

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

#: Results and clusters of a query that a GPU looks for at most.
GPU_MOST = 2048

#: What an index is wrapped around, or stores its vectors in.
_INNER = ("base_index", "refine_index", "index", "storage", "quantizer")

#: Structures that take no vectors batch by batch, with what to take instead.
_AT_ONCE = {
    "IndexIDMap": "rows need no map of ids",
    "IndexNSG": "HNSW32,Flat is a graph that does",
    "IndexNNDescent": "HNSW32,Flat is a graph that does",
    "IndexRowwiseMinMax": "SQ8 keeps eight bits a value and does",
}

#: Structures that find the clusters of an IVF and hold no documents.
_ONLY_CLUSTERS = ("ResidualCoarseQuantizer", "LocalSearchCoarseQuantizer")


def import_faiss() -> Any:
    """The faiss module, if exactly one of its distributions is installed.

    Raises:
        UserError: if there is none, or both fill the same folder and neither works.
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
def named(failure: str) -> Iterator[None]:
    """An error of faiss as one of the user's, after what failed."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).rpartition("Error: ")[2] or str(error)
        raise UserError(f"{failure} ({' '.join(reason.split())})") from error


@contextmanager
def multiplying(*, from_rows: int) -> Iterator[None]:
    """Have faiss compare by products of matrices from some rows on; afterwards, as when it trains, as it comes."""
    settings = import_faiss().cvar
    before = settings.distance_compute_blas_threshold
    settings.distance_compute_blas_threshold = from_rows
    try:
        yield
    finally:
        settings.distance_compute_blas_threshold = before


def make(factory: str, dim: int) -> Any:
    """An empty index that ranks by inner product.

    Raises:
        UserError: if faiss does not read the string, or what it makes cannot be used here.
    """
    faiss = import_faiss()
    with named(f"index.factory={factory}: faiss makes no such index for inner products of {dim} dimensions"):
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    check_structure(index, factory)
    return index


def check_structure(index: Any, factory: str) -> None:
    """Hold every part of an index, down to its quantizers and storage, to what faiss itself does not check.

    faiss builds some parts for L2 distances whatever metric is asked for, and returns their smallest inner products or
    their largest distances; others rank at random, fail when they are searched, or end the process.

    Raises:
        UserError: naming the part, what is wrong with it, and what to take instead.
    """
    if "RefinePanorama" in factory:  # to Python it is an IndexRefine, and fails when it is searched
        raise UserError(f"index.factory={factory}: RefinePanorama is not supported; take RFlat or Refine(SQ8)")
    for part, roles in _indexes(index):
        if fault := _fault(part, roles):
            raise UserError(f"index.factory={factory}: its {type(part).__name__} {fault}")


def _fault(part: Any, roles: frozenset[str]) -> str | None:
    """Why a part cannot be used in its place, and what to take instead; None if it can."""
    faiss, name = import_faiss(), type(part).__name__
    if instead := next((hint for prefix, hint in _AT_ONCE.items() if name.startswith(prefix)), None):
        return f"takes no vectors batch by batch; {instead}"
    has_metric_of_its_own = not isinstance(part, faiss.IndexPreTransform)  # the part inside is named instead
    if has_metric_of_its_own and part.metric_type != faiss.METRIC_INNER_PRODUCT:
        return (
            "compares by distance whatever is asked for, and documents are ranked by inner product here; "
            "HNSW32,SQ8 and IVF{lists},PQ{codes} are as small and can"
        )
    quantizer = faiss.ScalarQuantizer
    if hasattr(part, "sq") and part.sq.qtype in (quantizer.QT_8bit_direct, quantizer.QT_8bit_direct_signed):
        return "keeps whole numbers of eight bits, and values of embeddings are fractions; take SQ8"
    if name in _ONLY_CLUSTERS and "quantizer" not in roles:
        return "finds clusters and holds no vectors; take it as IVF16(RCQ2x2),Flat does"
    is_by_row = isinstance(part, faiss.IndexFlatCodes | faiss.IndexHNSW | faiss.IndexPreTransform)
    if "refine_index" in roles and (not is_by_row or "Panorama" in name):
        return "cannot score single documents again; take RFlat or Refine(SQ8)"
    return None


def parts(index: Any) -> list[Any]:
    """An index, its product quantizer, and what it is wrapped around."""
    return [found for part, _ in _indexes(index) for found in (part, *([part.pq] if hasattr(part, "pq") else []))]


def _indexes(index: Any, roles: frozenset[str] = frozenset()) -> Iterator[tuple[Any, frozenset[str]]]:
    """An index and what it is wrapped around, each with the names under which it is reached."""
    faiss = import_faiss()
    if isinstance(index, faiss.IndexBinary):
        yield index, roles
        return
    index = faiss.downcast_index(index)
    yield index, roles
    for name in _INNER:
        if (inner := getattr(index, name, None)) is not None:
            yield from _indexes(inner, roles | {name})


def needed(index: Any) -> tuple[int, str]:
    """The fewest vectors that a structure is learned from, and what is learned."""
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
                if isinstance(step, faiss.OPQMatrix):  # by way of a product quantizer of eight bits
                    least.append((256, "a rotation by codes of 256 values"))
    return max(least, key=lambda pair: pair[0])


#: A search on a GPU, in a process of its own: faiss ends the process where it has no code for the GPU.
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


def on_gpu(index: Any, device: torch.device, *, name: str) -> Any:
    """A copy of an index on the GPU; None if faiss was not built for GPUs.

    None also, with a line that says why, where faiss has no such structure there, or the GPU has no room.
    """
    faiss = import_faiss()
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        return None
    number = device.index or 0
    if fault := _fault_of_gpu(number):
        log.warning("%s is searched on the processor: faiss cannot use this GPU (%s)", name, fault)
        return None
    options = faiss.GpuClonerOptions()
    # the tables of 96 codes fit a GPU's shared memory in half precision only; vectors stay in single precision
    options.useFloat16 = any(hasattr(part, "pq") for part in parts(index))
    clone = faiss.index_binary_cpu_to_gpu if isinstance(index, faiss.IndexBinary) else faiss.index_cpu_to_gpu
    try:
        return clone(faiss.StandardGpuResources(), number, index, options)
    except RuntimeError as error:
        log.warning("%s is searched on the processor: %s", name, " ".join(str(error).rpartition("Error: ")[2].split()))
        return None


def refined(index: Any) -> Any:
    """What finds the candidates of an index that ends in RFlat; None of any other structure."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    return faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefineFlat) else None


def kept_vectors(index: Any) -> NDArray[np.float32] | None:
    """The vectors themselves, over the index's own memory, of `Flat` or `…,RFlat`; None of any other structure."""
    faiss = import_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefineFlat):
        index = faiss.downcast_index(index.refine_index)
    if type(index) not in (faiss.IndexFlat, faiss.IndexFlatIP) or not index.ntotal:  # others have their own order
        return None
    vector_NH: NDArray[np.float32] = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return vector_NH.reshape(index.ntotal, index.d)
