"""Architectures by families by directions: a checkpoint has the same scores in its other library, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.colbert import ColBERT
from tests.model.architectures import ARCHITECTURES, make_backbone
from tests.model.matrix import DIRECTIONS, FAMILIES, measure

#: Where MultiVectorEncoder puts a marker elsewhere than PyLate and irexp do: in front of a text's first token.
MARKER_ELSEWHERE = ("T5", "Qwen3", "Llama")

#: Architectures in every run of the tests, one for each kind of tokenizer: special tokens on both sides, after, before.
SHORT = ("BERT", "T5", "Gemma")

#: The number of directions of each architecture, of 28, with equal scores; the others are refused by name.
EQUAL = {
    **{"BERT": 22, "DistilBERT": 22, "ELECTRA": 22, "ModernBERT": 22},
    **{"MPNet": 24, "RoBERTa": 24, "XLM-R": 24, "ALBERT": 24, "DeBERTa-v2": 24},
    **{"T5": 19, "BART": 4, "Qwen3": 23, "Llama": 23, "Gemma": 24},
}


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else [pytest.mark.slow]) for name in ARCHITECTURES]
)
def test_scores_are_equal_in_every_direction_or_refused_by_name(name: str, tmp_path: Path) -> None:
    """Only markers of ColBERT on a tokenizer without a first special token differ in MultiVectorEncoder."""
    equal = 0
    for number, (title, family) in enumerate(FAMILIES.items()):
        (tmp_path / str(number)).mkdir()
        for direction, cell in measure(ARCHITECTURES[name], family, tmp_path / str(number)).items():
            is_known = name in MARKER_ELSEWHERE and (title, direction) == ("ColBERT", DIRECTIONS[3])
            assert cell.difference is None or cell.is_equal != is_known, f"{title}, {direction}: {cell}"
            equal += cell.is_equal
    assert equal == EQUAL[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", ["dense, mean", "SPLADE", "ColBERT", "mono"])
@pytest.mark.parametrize(
    ("name", "side"), [("BERT", "truncation_side"), ("BERT", "padding_side"), ("Gemma", "padding_side")]
)
def test_a_tokenizers_side_is_applied_or_refused(name: str, side: str, title: str, tmp_path: Path) -> None:
    """Texts are truncated on the left, as at home; padding on the left is refused where it would change a vector."""
    cells = measure(ARCHITECTURES[name], FAMILIES[title], tmp_path, **{side: "left"})
    if title == "SPLADE" and name == "Gemma":
        assert {cell.by for cell in cells.values()} == {"transformers"}
    elif (name, side) == ("BERT", "padding_side"):
        assert "padding_side=left in its tokenizer_config.json is not supported" in cells[DIRECTIONS[0]].error
    else:
        assert cells[DIRECTIONS[0]].is_equal, str(cells[DIRECTIONS[0]])
        assert cells[DIRECTIONS[1]].is_equal, str(cells[DIRECTIONS[1]])


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "Gemma", *MARKER_ELSEWHERE])
def test_a_marker_that_multi_vector_encoder_puts_elsewhere_is_a_warning(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """PyLate and irexp put it after the first token; without markers there is no warning."""
    backbone = HuggingFaceBackbone(str(make_backbone(ARCHITECTURES[name], tmp_path / "start", "AutoModel")))
    for marker in (None, "[Q] "):
        (tmp_path / "saved").mkdir(exist_ok=True)
        model = ColBERT(backbone, dim=8, query_expansion=False, query_marker=marker, document_marker=marker)
        model.layout.save(model, tmp_path / "saved")
        is_warned = "MultiVectorEncoder with others: with this tokenizer it puts the marker '[Q] ' elsewhere"
        assert (is_warned in caplog.text) == (marker is not None and name in MARKER_ELSEWHERE)
