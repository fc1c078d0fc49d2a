"""An index is opened with the engine that built it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irexp import build_index, component, open_index
from irexp.config.schema import Machine
from irexp.index.vectors import Representation
from irexp.types import UserError
from tests.engines import clustered, encode

TEXTS = [f"text {number} of a collection" for number in range(20)]


@pytest.fixture(scope="module")
def machine() -> Machine:
    """One thread, without progress bars."""
    found: Machine = component("machine", "cpu", threads=1, progress=False)
    return found


@pytest.mark.parametrize(
    ("built", "given", "message"),
    [
        (("plaid", {"bits": 4, "centroids": 4}), ("plaid", {"centroids": 4}), "bits was 4 and is now 2"),
        (("sharded", {"parts": 4}), ("sharded", {"parts": 2}), "parts was 4 and is now 2"),
        (("muvera", {"seed": 1}), ("muvera", {}), "seed was 1 and is now 0"),
        (("bm25", {"stemmer": None}), ("bm25", {}), "stemmer was None and is now 'english'"),
        (("faiss_ivf", {"lists": 2}), ("faiss_flat", {}), "factory was 'IVF.lists.,Flat' and is now 'Flat'"),
        (("torch_dense", {}), ("faiss_flat", {}), "class was 'TorchDense' and is now 'Faiss'; "),
        (("sharded", {"engine": {"factory": "Flat"}}), ("sharded", {"engine": {"factory": "SQ8"}}), "engine.factory"),
    ],
)
def test_another_engine_than_that_of_the_build_is_refused(
    tmp_path: Path,
    machine: Machine,
    built: tuple[str, dict[str, object]],
    given: tuple[str, dict[str, object]],
    message: str,
) -> None:
    """The error names the setting; opened with it, the index would lack documents or give wrong scores, or crash."""
    option, settings = built
    kind: Representation = "tokens" if option in ("plaid", "muvera") else "dense"
    source = TEXTS if option == "bm25" else encode(tmp_path / "encoding", clustered(kind, 100, seed=0))
    engine = component("index", option, **settings)
    build_index(source, tmp_path / "index", engine=engine, machine=machine)
    assert len(open_index(engine, tmp_path / "index")) == len(source)
    with pytest.raises(UserError, match=message):
        open_index(component("index", given[0], **given[1]), tmp_path / "index")


def test_other_search_settings_are_accepted(tmp_path: Path, machine: Machine) -> None:
    """Also those of an engine within the engine."""
    documents = clustered("tokens", 100, seed=0)
    engine = component("index", "muvera")
    build_index(encode(tmp_path / "encoding", documents), tmp_path / "index", engine=engine, machine=machine)
    other = component("index", "muvera", search={"rescored": 7}, engine={"search": None})
    assert len(open_index(other, tmp_path / "index")) == 100


def test_an_index_without_its_settings_is_opened_if_no_document_is_missing(tmp_path: Path, machine: Machine) -> None:
    """Such as one of an earlier version."""
    encoding = encode(tmp_path / "encoding", np.eye(8, dtype=np.float32))
    engine = component("index", "sharded", parts=4)
    build_index(encoding, tmp_path / "index", engine=engine, machine=machine)
    (tmp_path / "index" / "engine.json").unlink()
    assert len(open_index(engine, tmp_path / "index")) == 8
    with pytest.raises(UserError, match="8 document ids, and the engine finds 4 documents"):
        open_index(component("index", "sharded", parts=2), tmp_path / "index")
