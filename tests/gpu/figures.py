"""Measurements of the smoke test by subprocess: `figures.py machine`, `encoding CHECKPOINT`, `memory CHECKPOINT`.

The last printed line is JSON.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from irexp import load
from irexp.dataset.aws_howto import AwsHowtoDocuments
from irexp.model.batching import TokenBudget, token_budget_batches
from irexp.model.bi_encoder import BiEncoder

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
    """Documents per second: tokenizing, and encoding by token budget and precision."""
    model, device = _opened(checkpoint)
    texts = [document.text for document in AwsHowtoDocuments()] * (_COPIES if device.type == "cuda" else 1)
    start = time.perf_counter()
    token_ids = model.tokenize_documents(texts)
    found = {"documents per second, tokenizing": len(texts) / (time.perf_counter() - start)}
    for budget in (8192, 131_072, 1_048_576):
        for precision in ("fp32", "bf16"):
            _encode(model, token_ids[:2000], budget, precision, device)  # warms up
            start = time.perf_counter()
            _encode(model, token_ids, budget, precision, device)
            name = f"documents per second, encoding in {precision} with a token budget of {budget}"
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


@torch.inference_mode()
def _encode(model: BiEncoder, token_ids: list[list[int]], budget: int, precision: str, device: torch.device) -> None:
    lower = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    for batch in token_budget_batches([len(tokens) for tokens in token_ids], budget):
        tokens = model.pad([token_ids[position] for position in batch], is_query=False).to(device)
        with lower:
            embeddings = model.encode_documents(tokens)
        model.to_vectors(embeddings)


def main() -> None:
    """Print the measurements."""
    name, *checkpoint = sys.argv[1:]
    measured = machine() if name == "machine" else {"encoding": encoding, "memory": memory}[name](checkpoint[0])
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
