"""The exact engine of each kind of vectors."""

from irexp.index.faiss_flat import FaissFlat
from irexp.index.index import Index
from irexp.index.maxsim import MaxSim
from irexp.index.sparse import SparseIndex
from irexp.index.vectors import Representation

_EXACT: dict[Representation, type[Index]] = {"dense": FaissFlat, "sparse": SparseIndex, "tokens": MaxSim}


def exact_index(representation: Representation) -> Index:
    """An empty index that leaves nothing out."""
    return _EXACT[representation]()
