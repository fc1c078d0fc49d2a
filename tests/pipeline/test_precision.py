"""Each precision of encoding, re-ranking and scoring gives nearly the scores of fp32 and leaves the model unchanged."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irexp import build_index, encode, new_model, re_rank, score, search
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.schema import Encoding, Machine
from irexp.model.cross_encoder import CrossEncoder
from irexp.model.model import Model
from irexp.pipeline.component import component
from irexp.pipeline.machine import check_precision
from irexp.pipeline.precision import check_computation
from irexp.types import ScoredDoc, UserError
from tests.chains import TEXTS
from tests.families import MAKE


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize("option", ["sbert", "dpr", "splade", "colbert", "coil"])
def test_a_search_finds_nearly_the_scores_of_fp32(option: str, precision: str, folders: dict[str, Path]) -> None:
    """They differ, but by little, and at least ten of twelve queries have the same best document."""
    torch.manual_seed(0)
    machine = component("machine", accelerator="cpu", progress=False)
    model = new_model(option, backbone=str(folders["encoder"]))
    before = model.score(TEXTS[0], TEXTS)
    exact_QN, rounded_QN = (
        scores(model, component("encoding", precision=name), machine).reshape(len(TEXTS), len(TEXTS))
        for name in ("float32", precision)
    )
    deviation = np.abs(rounded_QN - exact_QN).max()
    assert 0 < deviation < 0.1 * np.abs(exact_QN).max()
    assert np.corrcoef(exact_QN.ravel(), rounded_QN.ravel())[0, 1] > 0.98
    assert (exact_QN.argmax(axis=1) == rounded_QN.argmax(axis=1)).sum() >= 10
    assert model.score(TEXTS[0], TEXTS).tolist() == before.tolist()


def scores(model: Model, encoding: Encoding, machine: Machine) -> NDArray[np.float64]:
    """The scores of each text as a query with each text as a document, in their order."""
    index = build_index(encode(model, TEXTS, settings=encoding, machine=machine), machine=machine)
    found = search(index, TEXTS, model=model, depth=len(TEXTS), machine=machine)
    score_of = {(line.query_id, line.doc_id): line.score for line in found}
    return np.array(
        [score_of[str(query), str(document)] for query in range(len(TEXTS)) for document in range(len(TEXTS))]
    )


#: The documents of one query, which are scored again.
RUN = [ScoredDoc("0", str(number), 1.0 - number) for number in range(len(TEXTS))]

#: One thread, and three, each of which computes batches of its own.
MACHINES = [component("machine", accelerator="cpu", progress=False, threads=n, token_budget=60) for n in (1, 3)]


def re_ranked(model: Model, precision: str, machine: Machine) -> dict[str, float]:
    """The scores of all texts for the first one as a query."""
    found = re_rank(model, RUN, {"0": TEXTS[0]}, TEXTS, precision=precision, machine=machine)
    return {line.doc_id: line.score for line in sorted(found, key=lambda line: int(line.doc_id))}


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["mono", "mono_two", "linear_mono", "set_encoder", "mono_t5", "rank_t5", "decoder"])
def test_a_cross_encoder_computes_nearly_the_scores_of_fp32(
    name: str, precision: str, backbones: dict[str, HuggingFaceBackbone]
) -> None:
    """With token types, lists whose documents see one another, and logits of one token; int8 refuses the last two."""
    torch.manual_seed(0)
    model = MAKE[name](backbones)
    assert isinstance(model, CrossEncoder)
    before = model.score(TEXTS[0], TEXTS)
    if precision == "int8" and model.without_int8:
        with pytest.raises(UserError, match=r"^re_rank\.precision=int8: a \w+ cannot .*; set .*=bfloat16 or float32"):
            re_ranked(model, precision, MACHINES[0])
        return
    exact, rounded = (list(re_ranked(model, each, MACHINES[0]).values()) for each in ("float32", precision))
    np.testing.assert_allclose(exact, before, rtol=1e-4, atol=1e-5)
    assert 0 < np.abs(np.subtract(rounded, exact)).max() < 0.1 * np.abs(exact).max()
    assert np.corrcoef(exact, rounded)[0, 1] > (0.98 if precision == "bfloat16" else 0.9)
    assert model.score(TEXTS[0], TEXTS).tolist() == before.tolist()
    if name in ("mono", "linear_mono", "set_encoder"):  # the last layer is in fp32, or close scores would be ties
        assert any(torch.tensor(score).bfloat16().item() != score for score in rounded)
    if precision == "bfloat16":  # in int8 a score depends on its batch
        np.testing.assert_allclose(list(re_ranked(model, precision, MACHINES[1]).values()), rounded, rtol=0.05)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("option", ["sbert", "dpr", "splade", "colbert"])
def test_a_re_ranking_gives_the_scores_of_an_encoding(option: str, precision: str, folders: dict[str, Path]) -> None:
    """Documents are computed in the precision and queries in float32, by both."""
    model = new_model(option, backbone=str(folders["encoder"]))
    exact = re_ranked(model, "float32", MACHINES[0])
    index = build_index(encode(model, TEXTS, settings=component("encoding", precision=precision), machine=MACHINES[0]))
    found = search(index, TEXTS[:1], model=model, depth=len(TEXTS), machine=MACHINES[0])
    rounded = re_ranked(model, precision, MACHINES[0])
    assert rounded == pytest.approx({line.doc_id: line.score for line in found}, rel=1e-5)
    assert rounded != pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_training_examples_are_scored_as_documents_are_re_ranked(
    precision: str, backbones: dict[str, HuggingFaceBackbone]
) -> None:
    """By the same computation."""
    model = MAKE["mono"](backbones)
    found = score(model, [(TEXTS[0], *TEXTS)], TEXTS, precision=precision, machine=MACHINES[0])
    expected = re_ranked(model, precision, MACHINES[0])
    assert sorted(line.score for line in found) == sorted(expected.values())
    assert found == sorted(found, key=lambda line: (-line.score, line.doc_id))


def test_a_precision_that_there_is_not_is_refused(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """In Python with the message of the configuration; the refusal names the choices or the nearest."""
    model = MAKE["mono"](backbones)
    with pytest.raises(UserError, match=r"^re_rank\.precision: 'bf16' is not a choice; did you mean bfloat16\?"):
        re_ranked(model, "bf16", MACHINES[0])
    with pytest.raises(UserError, match=r"^score\.precision: '8' is not a choice; there are bfloat16, float32, int8"):
        score(model, [], TEXTS, precision="8", machine=MACHINES[0])
    for setting in ("re_rank", "score"):
        with pytest.raises(UserError, match=rf"{setting}\.precision: 'bf16' is not a choice; did you mean bfloat16\?"):
            component(setting, precision="bf16")
        with pytest.raises(UserError, match=rf"^{setting}\.precision=int8 needs a processor.*; set {setting}\.prec"):
            check_computation(f"{setting}.precision", "int8", torch.device("cuda"))


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bfloat16_without_instructions_for_it_is_warned_of(
    has_instructions: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs, but is much slower than fp32; on a GPU and on other processors there is nothing to say."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for device in ("cpu", "cuda"):
        check_precision("bf16-mixed", torch.device(device))
        check_computation("re_rank.precision", "bfloat16", torch.device(device))
    warnings = [record.getMessage() for record in caplog.records]
    expected = [("training.precision=bf16-mixed", "32-true"), ("re_rank.precision=bfloat16", "float32")]
    assert len(warnings) == (0 if has_instructions else 2)
    for (choice, faster), line in zip(expected, warnings, strict=False):
        assert line.startswith(f"{choice}: this processor has no") and line.endswith(f"set {faster}")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    check_precision("bf16-mixed", torch.device("cpu"))
    assert len(caplog.records) == len(warnings)
