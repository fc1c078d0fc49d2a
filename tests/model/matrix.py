"""Which library opens whose checkpoints with the same scores: architectures by families by directions.

Every cell is measured on a tiny random transformer with the tokenizer class of its architecture. The whole table:

    python -m tests.model.matrix                     # two minutes on a core; prints Markdown
    python -m tests.model.matrix BERT T5             # only some architectures

`tests/model/test_home_matrix.py` runs a few architectures, and all of them with `pytest -m slow`.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.types import UserError
from tests import tiny
from tests.model.architectures import ARCHITECTURES, POSITIONS, Architecture, make_backbone

QUERIES = [*tiny.QUERIES, "stop all of the instances, and delete a queue of buckets " * 9]
DOCUMENTS = [*tiny.DOCUMENTS, "list all of the buckets and create a queue " * 12]

#: The largest difference of two scores, as a part of the largest score, that counts as rounding.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Family:
    """A family of irexp, and the class of sentence-transformers that reads its checkpoints.

    Attributes:
        loader: the class of transformers that makes the backbone.
        make: makes irexp's model from a backbone.
        make_at_home: makes the home library's model from the backbone's folder.
        opener: opens a folder in the home library.
        is_long: whether texts are compared that do not fit: irexp never truncates a template, as home does.
    """

    loader: str
    make: Callable[[HuggingFaceBackbone], Model]
    make_at_home: Callable[[Path], Any]
    opener: Any
    is_long: bool = True

    def texts(self) -> tuple[list[str], list[str]]:
        """Queries and documents, some of them longer than the transformer reads."""
        return (QUERIES, DOCUMENTS) if self.is_long else (tiny.QUERIES, tiny.DOCUMENTS)


def _open(kind: Any) -> Callable[[Path], Any]:
    return lambda folder: kind(str(folder), device="cpu")


def _pooled(mode: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        transformer = Transformer(str(folder))
        return SentenceTransformer(modules=[transformer, Pooling(16, pooling_mode=mode)], device="cpu")

    return make


_ROLES = {
    role: "{{ messages | selectattr('role', 'eq', '" + role + "') | map(attribute='content') | first }}"
    for role in ("query", "document")
}


def _words(tokenizer: Any) -> tuple[str, str]:
    """Two tokens of a vocabulary, which stand for relevant and not relevant."""
    first, second = sorted(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))[-2:]
    return first, second


def _logit_score(folder: Path) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = f"Query: {_ROLES['query']} Document: {_ROLES['document']} Relevant:"
    tokenizer.save_pretrained(folder)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    yes, no = (vocabulary[word] for word in _words(tokenizer))
    transformer = Transformer(str(folder), transformer_task="text-generation")
    return CrossEncoder(modules=[transformer, LogitScore(true_token_id=yes, false_token_id=no)], device="cpu")


def _token_logit(backbone: HuggingFaceBackbone) -> Model:
    true, false = _words(backbone.load_tokenizer())
    return TokenLogit(
        backbone,
        template="Query: {query} Document: {document} Relevant:",
        true_token=true,
        false_token=false,
        score="log_odds",
        special_tokens=False,
    )


def _colbert(backbone: HuggingFaceBackbone) -> Model:
    has_mask = backbone.load_tokenizer().mask_token is not None
    return ColBERT(backbone, dim=8, query_expansion=has_mask, query_marker="[Q] ", document_marker="[D] ")


FAMILIES: dict[str, Family] = {
    "dense, mean": Family("AutoModel", lambda b: DenseBiEncoder(b), _pooled("mean"), SentenceTransformer),
    "dense, last, append_eos": Family(
        "AutoModel",
        lambda b: DenseBiEncoder(b, pooling="last", append_eos=True, similarity="dot"),
        _pooled("lasttoken"),
        SentenceTransformer,
    ),
    "SPLADE": Family("AutoModelForMaskedLM", lambda b: SPLADE(b), _open(SparseEncoder), SparseEncoder),
    "ColBERT": Family("AutoModel", _colbert, _open(MultiVectorEncoder), MultiVectorEncoder),
    "ColBERT, no marker": Family(
        "AutoModel",
        lambda b: ColBERT(b, dim=8, query_expansion=False, query_marker=None, document_marker=None),
        _open(MultiVectorEncoder),
        MultiVectorEncoder,
    ),
    "mono": Family(
        "AutoModelForSequenceClassification",
        lambda b: Mono(b, has_head=True, query_length=POSITIONS, document_length=POSITIONS),
        _open(CrossEncoder),
        CrossEncoder,
    ),
    "mono_decoder": Family("AutoModelForCausalLM", _token_logit, _logit_score, CrossEncoder, is_long=False),
}

DIRECTIONS = (
    "home saves, irexp opens",
    "irexp saves it again, home opens",
    "irexp saves, irexp opens",
    "irexp saves, home opens",
)


def home_scores(model: Any, texts: tuple[list[str], list[str]]) -> Any:
    """The scores in sentence-transformers, of queries by documents."""
    if isinstance(model, CrossEncoder):
        return model.predict([(q, d) for q in texts[0] for d in texts[1]]).reshape(len(texts[0]), -1)
    queries, documents = model.encode_query(texts[0]), model.encode_document(texts[1])
    if isinstance(model, MultiVectorEncoder):
        return np.array([[float((q @ d.T).amax(dim=1).sum()) for d in documents] for q in queries])
    if isinstance(model, SparseEncoder):
        return (queries.to_dense() @ documents.to_dense().T).numpy()
    return model.similarity(queries, documents).numpy()


@dataclass(frozen=True)
class Cell:
    """The outcome of one direction: the difference of the scores, or who refuses it and why."""

    difference: float | None = None
    error: str = ""
    by: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether the scores are equal but for rounding."""
        return self.difference is not None and self.difference <= TOLERANCE

    def __str__(self) -> str:
        """For the table."""
        if self.difference is None:
            return f"{self.by}: {self.error}"
        return "equal" if self.is_equal else f"DIFFERENT by {self.difference:.2g}"


def _compare(found: Any, expected: Any) -> Cell:
    expected = np.asarray(expected)
    return Cell(float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()))


def _try(by: str, call: Callable[[], Any]) -> Any:
    """A call's result, or the cell of its failure; irexp may only fail with a UserError."""
    try:
        return call()
    except UserError as error:
        return Cell(error=str(error), by=by)
    except Exception as error:
        if by == "irexp":
            raise
        return Cell(error=f"{type(error).__name__}: {' '.join(str(error).split())[:80]}", by=by)


def measure(architecture: Architecture, family: Family, folder: Path, **sides: str) -> dict[str, Cell]:
    """The outcome of each direction.

    Args:
        architecture: the kind of transformer.
        family: the family of irexp.
        folder: an empty folder for the checkpoints.
        sides: `padding_side` and `truncation_side` of the tokenizer.
    """
    start = _try("transformers", lambda: make_backbone(architecture, folder / "start", family.loader, **sides))
    if isinstance(start, Cell):
        return dict.fromkeys(DIRECTIONS, start)
    cells = (*_from_home(family, start, folder), *_from_irexp(family, start, folder))
    return dict(zip(DIRECTIONS, cells, strict=True))


def _at_home(family: Family, folder: Path) -> Any:
    return _try("home", lambda: home_scores(family.opener(str(folder), device="cpu"), family.texts()))


def _from_home(family: Family, start: Path, folder: Path) -> tuple[Cell, Cell]:
    """A checkpoint of the home library, opened here, and saved here and opened there again."""

    def save_at_home() -> Any:
        theirs = family.make_at_home(start)
        theirs.save(str(folder / "theirs"))
        return home_scores(theirs, family.texts())

    expected = _try("home", save_at_home)
    if isinstance(expected, Cell):
        return expected, expected
    ours = _try("irexp", lambda: load(folder / "theirs"))
    if isinstance(ours, Cell):
        return ours, ours
    save(ours, folder / "back")
    back = _at_home(family, folder / "back")
    return (
        _compare(ours.score(*family.texts()), expected),
        back if isinstance(back, Cell) else _compare(back, expected),
    )


def _from_irexp(family: Family, start: Path, folder: Path) -> tuple[Cell, Cell]:
    """A checkpoint of irexp, opened here and in the home library."""
    torch.manual_seed(1)
    model = _try("irexp", lambda: family.make(HuggingFaceBackbone(str(start))).eval())
    if isinstance(model, Cell):
        return model, model
    scores = model.score(*family.texts())
    save(model, folder / "ours")
    again = _try("irexp", lambda: load(folder / "ours"))
    home = _at_home(family, folder / "ours")
    return (
        again if isinstance(again, Cell) else _compare(again.score(*family.texts()), scores),
        home if isinstance(home, Cell) else _compare(home, scores),
    )


def summary(cells: Mapping[str, Cell]) -> str:
    """Who opens whose checkpoints: both, irexp (opens home's only), home (opens irexp's only), or neither."""
    opens, saves = cells[DIRECTIONS[0]].is_equal, cells[DIRECTIONS[3]].is_equal
    return {(True, True): "both", (True, False): "opens", (False, True): "saves", (False, False): "–"}[opens, saves]


def main(names: Sequence[str]) -> None:
    """Print the table of some architectures, or of all, and below it each direction that is not equal."""
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    details = []
    print(f"| architecture | {' | '.join(FAMILIES)} |\n| --- |{' --- |' * len(FAMILIES)}")
    for name in names or ARCHITECTURES:
        row = []
        for title, family in FAMILIES.items():
            with tempfile.TemporaryDirectory() as folder:
                cells = measure(ARCHITECTURES[name], family, Path(folder))
            row.append(summary(cells))
            details += [f"{name}, {title}, {key}: {cell}" for key, cell in cells.items() if not cell.is_equal]
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    print("", *details, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
