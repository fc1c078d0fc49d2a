"""What a worker is asked to encode or to score."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Texts:
    """Texts, or pairs.

    Attributes:
        path: their JSON file, as `Work.path`.
        count: how many.
        length: tokens per text, the mean.
    """

    path: Path
    count: int
    length: float


@dataclass(frozen=True)
class Work:
    """Texts to encode, or pairs to score.

    Attributes:
        task: encode or re_rank.
        model: sbert, colbert or mono.
        folder: the model, as irexp saves it.
        path: a JSON list of texts, or of pairs of a query and a text.
        query_length: tokens kept per query.
        document_length: tokens kept per document.
        threads: 1 for one thread; None for all cores.
        device: cpu or cuda.
        settings: of irexp alone: the values of conf/machine, and of conf/encoding or the precision of conf/re_rank, by
            group.
        result: a new .npy file for the vectors or scores; None to write none.
    """

    task: str
    model: str
    folder: str
    path: str
    query_length: int
    document_length: int
    threads: int | None
    device: str
    settings: dict[str, dict[str, Any]]
    result: str | None = None

    def texts(self) -> list[str]:
        """The texts to encode."""
        return [str(text) for text in self._read()]

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs to score."""
        return [(str(query), str(text)) for query, text in self._read()]

    def _read(self) -> list[Any]:
        found: list[Any] = json.loads(Path(self.path).read_text(encoding="utf8"))
        return found


#: From texts to their vectors: one for each text, or one for each token of all texts, in order.
Encoder = Callable[[list[str], Work], NDArray[np.float32]]

#: From pairs of a query and a document to their scores.
Scorer = Callable[[list[tuple[str, str]], Work], NDArray[np.float32]]
