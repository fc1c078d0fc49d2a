"""The speed of encoding, compared with sentence-transformers in one run: `python tests/benchmark/encode.py`.

Both encode the embedded collection with the embedded backbone in fp32, alternately, and their embeddings are compared.
Only medians and ratios count: on a shared machine single timings are noise.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf
from sentence_transformers import SentenceTransformer

from irexp import load, save
from irexp.dataset.aws_howto import AwsHowtoDocuments
from irexp.model.dense import DenseBiEncoder

log = logging.getLogger(__name__)

_ROUNDS = 5


def main() -> None:
    """Encode in turns and log the medians."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)
    texts = [document.text for document in AwsHowtoDocuments()]
    backbone = instantiate(OmegaConf.load(Path(__file__).parents[2] / "conf" / "backbone" / "splade_tiny.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        save(DenseBiEncoder(backbone, document_length=80), folder)
        ours, theirs = load(folder), SentenceTransformer(folder, device="cpu")
        assert isinstance(ours, DenseBiEncoder)
    encoders: dict[str, Callable[[], NDArray[np.float32]]] = {
        "irexp, batches of equal token budget": lambda: ours.embed_documents(texts),
        "sentence-transformers, batches of 32": lambda: np.asarray(theirs.encode(texts, batch_size=32)),
        "sentence-transformers, batches of 128": lambda: np.asarray(theirs.encode(texts, batch_size=128)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    found = {}
    for _ in range(_ROUNDS):
        for name, encode in encoders.items():
            start = time.perf_counter()
            found[name] = encode()
            seconds[name].append(time.perf_counter() - start)
    first, *others = found.values()
    assert all(np.allclose(first, other, atol=1e-5) for other in others)
    for name, values in seconds.items():
        median = statistics.median(values)
        log.info("%-40s %6.2f s, %6.0f documents per second", name, median, len(texts) / median)


if __name__ == "__main__":
    main()
