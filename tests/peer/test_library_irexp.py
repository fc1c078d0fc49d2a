"""irexp as one of the compared libraries: its lines in another precision do the same work, nearly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from irexp import component, new_model, save
from irexp.peer.library_irexp import open_encoder, open_scorer
from irexp.peer.work import Work
from tests.chains import TEXTS

PAIRS = [(query, text) for query in TEXTS[:2] for text in TEXTS[:5]]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("task", ["encode", "re_rank"])
def test_a_line_in_another_precision_computes_nearly_the_same(
    task: str, precision: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Twice, since int8 is exported once; then in float32 again, by the same model."""
    save(new_model("sbert" if task == "encode" else "mono", backbone=str(folders["encoder"])), tmp_path / "model")
    opened = (open_encoder if task == "encode" else open_scorer)("", str(tmp_path / "model"), 16, 16, "cpu")
    group = "encoding" if task == "encode" else "re_rank"
    machine = dataclasses.asdict(component("machine", "cpu"))
    found = []
    for chosen in ("float32", precision, precision, "float32"):
        settings = {
            "machine": machine,
            group: {"precision": chosen} | ({"dtype": "float32"} if task == "encode" else {}),
        }
        work = Work(task, "", "", "", 16, 16, 1, "cpu", settings)
        found.append(opened(TEXTS if task == "encode" else PAIRS, work))  # type: ignore[arg-type]
    assert len(found[0]) == len(TEXTS if task == "encode" else PAIRS)
    assert np.array_equal(found[3], found[0]) and np.array_equal(found[2], found[1])
    assert 0 < np.linalg.norm(found[1] - found[0]) < 0.2 * np.linalg.norm(found[0])
