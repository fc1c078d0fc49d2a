"""Experiments with transformer retrieval models, from the command line (`python run.py`) and from Python.

from irexp import build_index, compare, component, encode, evaluate, fit, new_model, search
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irexp.dataset.sources import open_documents, open_examples, open_topics
    from irexp.model.load import load, save
    from irexp.pipeline.component import component
    from irexp.pipeline.encode import encode
    from irexp.pipeline.evaluate import compare, evaluate
    from irexp.pipeline.fit import fit
    from irexp.pipeline.index import build_index, open_index
    from irexp.pipeline.mine import mine
    from irexp.pipeline.new_model import new_model
    from irexp.pipeline.re_rank import re_rank
    from irexp.pipeline.score import score
    from irexp.pipeline.search import search

#: Public names and the modules that define them; imported on first use, so that `run.py --help` needs no torch.
_MODULES = {
    "build_index": "irexp.pipeline.index",
    "compare": "irexp.pipeline.evaluate",
    "component": "irexp.pipeline.component",
    "encode": "irexp.pipeline.encode",
    "evaluate": "irexp.pipeline.evaluate",
    "fit": "irexp.pipeline.fit",
    "load": "irexp.model.load",
    "mine": "irexp.pipeline.mine",
    "new_model": "irexp.pipeline.new_model",
    "open_documents": "irexp.dataset.sources",
    "open_examples": "irexp.dataset.sources",
    "open_index": "irexp.pipeline.index",
    "open_topics": "irexp.dataset.sources",
    "re_rank": "irexp.pipeline.re_rank",
    "save": "irexp.model.load",
    "score": "irexp.pipeline.score",
    "search": "irexp.pipeline.search",
}

__all__ = [
    "build_index",
    "compare",
    "component",
    "encode",
    "evaluate",
    "fit",
    "load",
    "mine",
    "new_model",
    "open_documents",
    "open_examples",
    "open_index",
    "open_topics",
    "re_rank",
    "save",
    "score",
    "search",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'irexp' has no attribute {name!r}")
