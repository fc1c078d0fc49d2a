"""Re-rankers by the next token's logits against their formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.batching import TokenBudget
from irexp.model.token_logit import TokenLogit
from tests import tiny

QUERY, DOCUMENT = "list all buckets, list all", "list a bucket and all of the buckets."


@pytest.mark.parametrize("score", ["log_probability", "log_odds", None])
@pytest.mark.parametrize("kind", ["t5", "decoder"])
def test_token_logit_is_its_formula(tmp_path: Path, kind: str, score: Any) -> None:
    """The score comes from the logits of one or two tokens after the filled template."""
    folder = tiny.t5(tmp_path) if kind == "t5" else tiny.decoder(tmp_path)
    settings: dict[str, Any] = {"true_token": "yes", "false_token": "no", "score": score or "log_odds"}
    if score is None:
        settings["false_token"] = None
    template = "Query: {query} Document: {document} Relevant:"
    model = TokenLogit(HuggingFaceBackbone(str(folder)), template=template, **settings).eval()
    ids = model.tokenizer(f"Query: {QUERY} Document: {DOCUMENT} Relevant:", return_tensors="pt")["input_ids"]
    more = {"decoder_input_ids": torch.tensor([[0]])} if kind == "t5" else {}
    with torch.no_grad():
        logits = model.encoder(input_ids=ids, **more).logits[0, -1]
    yes, no = float(logits[tiny.WORDS.index("yes")]), float(logits[tiny.WORDS.index("no")])
    log_probability = yes - math.log(math.exp(yes) + math.exp(no))
    expected = {None: yes, "log_odds": yes - no, "log_probability": log_probability}[score]
    assert model.score(QUERY, [DOCUMENT]).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_decoder_computes_logits_at_the_last_position_only(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """The head gets one hidden state per pair, else memory would run out; afterwards it works as before."""
    model = TokenLogit(backbones["decoder"], true_token="yes", false_token="no").eval()
    shapes: list[tuple[int, ...]] = []
    head: torch.nn.Module = model.encoder.get_output_embeddings()  # type: ignore[no-untyped-call]
    head.register_forward_hook(lambda _, inputs, output: shapes.append((*inputs[0].shape, *output.shape)))
    model.score(QUERY, tiny.DOCUMENTS)
    assert shapes == [(4, 1, 16, 4, 1, len(tiny.WORDS))]
    tokens = torch.tensor([[1, 2, 3]])
    assert model.encoder(input_ids=tokens).logits.shape[1] == 3


def test_batches_of_several_threads_do_not_mix(backbones: dict[str, HuggingFaceBackbone]) -> None:
    """Each thread's batches have their last tokens at other positions; all give the scores of one thread."""
    model = TokenLogit(backbones["decoder"], true_token="yes", false_token="no").eval()
    documents = [" ".join(tiny.WORDS[6 : 7 + number % 30]) for number in range(120)]
    one, three = (
        model.score_lists([(QUERY, documents)], budget=TokenBudget(300, workers=workers))[0] for workers in (1, 3)
    )
    torch.testing.assert_close(three, one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("template", ["Query: {query} Document: {document}", "Document: {document} Query: {query}"])
def test_placeholders_within_a_text_are_not_filled(backbones: dict[str, HuggingFaceBackbone], template: str) -> None:
    """A query that contains `{document}` stays unchanged."""
    model = TokenLogit(backbones["t5"], template=template)
    query, document = "all {document} the", "list {query} a"
    parts = {"Query": f"Query: {query}", "Document": f"Document: {document}"}
    expected = " ".join(parts[name] for name in sorted(parts, key=template.index))
    assert model.tokenize_pairs([query], [document])[0].ids == model.tokenizer(expected)["input_ids"]
