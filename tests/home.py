"""Models of sentence-transformers, and changes to the files in which it saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling


def edit(path: Path, **values: Any) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    path.write_text(json.dumps(content | values), encoding="utf8")


def dense(folder: Path, *more: Any, pooling: Any = "mean", include_prompt: bool = True, **lengths: int) -> list[Any]:
    """The modules of a dense model."""
    transformer = Transformer(str(folder), **lengths)
    return [transformer, Pooling(16, pooling_mode=pooling, include_prompt=include_prompt), *more]
