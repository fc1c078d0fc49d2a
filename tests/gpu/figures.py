"""Measurements of the smoke test by subprocess: `figures.py machine`, `encoding CHECKPOINT`, `memory CHECKPOINT`.

The last printed line is JSON.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from itertools import product
from typing import Any

import numpy as np
import torch

from irexp import load
from irexp.dataset.aws_howto import AwsHowtoDocuments
from irexp.index.parts import Parts
from irexp.model.batching import TokenBudget
from irexp.model.bi_encoder import BiEncoder
from irexp.pipeline.encode import _encode_window
from irexp.pipeline.precision import lowered

#: How many copies of the embedded collection are encoded together.
_COPIES = 8


def machine() -> dict[str, Any]:
    """The GPU and the versions."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    found: dict[str, Any] = {"gpu": gpu and gpu.name, "GPU memory, GiB": gpu and round(gpu.total_memory / 2**30, 1)}
    found["CUDA"] = torch.version.cuda
    found |= {name: importlib.metadata.version(name) for name in ("torch", "lightning", "transformers", "numpy")}
    return found | {"Python": sys.version.split()[0], "processors": torch.get_num_threads()}


def encoding(checkpoint: str) -> dict[str, float]:
    """Documents per second: tokenizing, and encoding by token budget, precision and batches in progress."""
    model, device = _opened(checkpoint)
    texts = [document.text for document in AwsHowtoDocuments()] * (_COPIES if device.type == "cuda" else 1)
    start = time.perf_counter()
    token_ids = model.tokenize_documents(texts)
    found = {"documents per second, tokenizing": len(texts) / (time.perf_counter() - start)}
    for tokens, precision, workers in product((8192, 131_072), ("float32", "bfloat16"), (1, 2)):
        budget = TokenBudget(tokens, workers=workers, device=device)
        with lowered("encoding.precision", precision, model)():
            _encode_window(model, token_ids[:2000], budget, device, Parts())  # warms up
            start = time.perf_counter()
            _encode_window(model, token_ids, budget, device, Parts())
        name = f"documents per second in {precision}, {tokens} tokens per batch, {workers} batches in progress"
        found[name] = len(texts) / (time.perf_counter() - start)
    return {name: round(value) for name, value in found.items()}


def memory(checkpoint: str) -> dict[str, float]:
    """The token budget that fits a hundredth of the GPU's memory, and how far its embeddings differ."""
    model, device = _opened(checkpoint)
    texts = [document.text for document in AwsHowtoDocuments()]
    expected = np.asarray(model.embed_documents(texts))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.01)
    budget = TokenBudget(10_000_000)
    found = np.asarray(model.embed_documents(texts, budget=budget))
    return {"tokens": budget.tokens, "difference": float(np.abs(found - expected).max())}


def _opened(checkpoint: str) -> tuple[BiEncoder, torch.device]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(checkpoint)
    assert isinstance(model, BiEncoder)
    return model.to(device).eval(), device


def main() -> None:
    """Print the measurements."""
    name, *checkpoint = sys.argv[1:]
    measured = machine() if name == "machine" else {"encoding": encoding, "memory": memory}[name](checkpoint[0])
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
