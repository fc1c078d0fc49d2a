"""Architectures beside BERT: what is read of them, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from irexp import load, save
from irexp.backbone.backbone import _RESERVE_POSITIONS, max_positions
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.coil import COIL
from irexp.model.dense import DenseBiEncoder
from irexp.model.mono import Mono
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.types import UserError
from tests import tiny

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 26,
}

#: What some kinds cannot do without.
MORE: dict[str, dict[str, Any]] = {
    "longformer": {"attention_window": [4]},
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 8},
    "esm": {"position_embedding_type": "absolute", "mask_token_id": 3},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
}

BART: dict[str, Any] = {
    "d_model": 16,
    **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 24 for side in ("encoder", "decoder")},
    **{f"{name}_token_id": 2 for name in ("bos", "eos", "decoder_start", "forced_eos")},
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def made(folder: Path, kind: str, head: str, **settings: Any) -> HuggingFaceBackbone:
    """A tiny model of a kind, with the tokenizer of the tiny BERT."""
    config = transformers.AutoConfig.for_model(kind, vocab_size=len(tiny.WORDS), **settings)
    maker = getattr(transformers, head)
    make = maker.from_config if head.startswith("Auto") else maker
    return HuggingFaceBackbone(str(tiny.make(folder, make, config)))


@pytest.mark.parametrize("kind", ["bert", *_RESERVE_POSITIONS])
def test_every_position_that_is_reported_can_be_read(kind: str) -> None:
    """As many tokens as that have finite vectors, and one more has no position."""
    config = transformers.AutoConfig.for_model(kind, vocab_size=40, pad_token_id=1, **SIZES, **MORE.get(kind, {}))
    model = transformers.AutoModel.from_config(config).eval()  # type: ignore[no-untyped-call]
    unbounded: Any = SimpleNamespace(model_max_length=10**30)
    longest = max_positions(config, unbounded)
    assert longest is not None
    with torch.no_grad():
        ids = torch.full((1, longest + 1), 5)
        assert model(input_ids=ids[:, 1:]).last_hidden_state.isfinite().all()
        with pytest.raises((RuntimeError, IndexError)):
            model(input_ids=ids)


def test_the_encoder_of_an_encoder_decoder_is_an_encoder(tmp_path: Path) -> None:
    """BART, for whose encoder transformers has no class of its own: its vectors, also when it was saved by itself."""
    backbone = made(tmp_path / "bart", "bart", "BartForConditionalGeneration", **BART)
    model = DenseBiEncoder(backbone, pooling="cls", similarity="dot").eval()
    whole: Any = transformers.BartModel.from_pretrained(tmp_path / "bart")
    ids = model.tokenize_queries(tiny.QUERIES[:1])
    with torch.no_grad():
        expected = whole(input_ids=torch.tensor(ids)).encoder_last_hidden_state[0, 0]
    torch.testing.assert_close(torch.from_numpy(model.embed_queries(tiny.QUERIES[:1]))[0], expected)
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved").score(tiny.QUERIES, tiny.DOCUMENTS)
    torch.testing.assert_close(again, model.score(tiny.QUERIES, tiny.DOCUMENTS))


@pytest.mark.parametrize(
    ("kind", "head", "settings"),
    [
        ("bart", "BartForConditionalGeneration", BART),
        (
            "mobilebert",
            "MobileBertForMaskedLM",
            {**SIZES, "embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
        ),
        ("deberta-v2", "DebertaV2ForMaskedLM", {**SIZES, "legacy": False}),
    ],
)
def test_a_head_that_cannot_be_pooled_in_chunks_is_refused(
    tmp_path: Path, kind: str, head: str, settings: dict[str, Any]
) -> None:
    """One whose logits are not the product of hidden states with one matrix."""
    with pytest.raises(UserError, match=f"model=splade: a {head} makes its logits of more than"):
        SPLADE(made(tmp_path, kind, head, **settings))


@pytest.mark.parametrize(
    ("kind", "head"), [("deberta-v2", "DebertaV2ForMaskedLM"), ("electra", "ElectraForMaskedLM")], ids=str
)
def test_a_head_of_another_make_is_pooled(tmp_path: Path, kind: str, head: str) -> None:
    """Where the matrix is all that is behind the hidden states."""
    backbone = made(tmp_path, kind, head, **SIZES)
    model = SPLADE(backbone).eval()
    ids = model.tokenize_queries(tiny.QUERIES[:1])
    with torch.no_grad():
        logits = backbone.load_masked_lm()(input_ids=torch.tensor(ids)).logits[0]
    weight = torch.from_numpy(model.embed_queries(tiny.QUERIES[:1]).toarray())[0]  # type: ignore[union-attr]
    torch.testing.assert_close(weight, torch.log1p(logits.relu().amax(dim=0)))


def test_a_classifier_of_other_labels_gets_a_head_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of three classes, as for natural language inference; one of one logit keeps it; a damaged body is refused."""
    three, one = (
        HuggingFaceBackbone(str(tiny.bert(tmp_path / name, "BertForSequenceClassification", num_labels=labels)))
        for name, labels in (("three", 3), ("one", 1))
    )
    model = Mono(three)
    assert model.score("list", tiny.DOCUMENTS).shape == (4,)
    assert "a head of other labels is drawn anew: classifier.bias, classifier.weight" in caplog.text
    saved = one.load_classifier(1, has_head=True).state_dict()["classifier.weight"]
    torch.testing.assert_close(Mono(one).encoder.state_dict()["classifier.weight"], saved)
    path = tmp_path / "one" / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 24', '"intermediate_size": 32'))
    with pytest.raises(UserError, match=r"intermediate\.dense\.bias has the shape \(24,\), where \(32,\)"):
        Mono(one)


def test_a_decoder_without_a_padding_token_is_no_cross_encoder(tmp_path: Path) -> None:
    """Its head looks for the last token before the padding."""
    folder = tiny.decoder(tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "[PAD]", ', ""))
    with pytest.raises(UserError, match="has no padding token, by which a ArceeForSequenceClassification finds"):
        Mono(HuggingFaceBackbone(str(folder)))


DECODER: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3}


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
@pytest.mark.parametrize("family", [DenseBiEncoder, COIL, Mono, TokenLogit])
def test_a_decoder_fills_no_cache(kind: str, family: type[Any], tmp_path: Path) -> None:
    """Nothing is generated, and a cache would hold as much as all layers' keys and values; the scores are the same."""
    backbone = made(tmp_path, kind, "AutoModelForCausalLM", **DECODER, pad_token_id=0)
    words = {"true_token": "yes", "false_token": "no"} if family is TokenLogit else {}
    model = family(backbone, **words).eval()
    (encoder,) = [encoder for encoder, _ in model.encoders().values()]
    outputs: list[Any] = []
    handle = encoder.register_forward_hook(lambda *seen: outputs.append(seen[2]))
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    handle.remove()
    assert len(outputs) >= 1
    assert [output.past_key_values for output in outputs] == [None] * len(outputs)
    ids = torch.tensor([[5, 6, 7]])
    assert encoder(input_ids=ids).past_key_values is not None  # by itself it does
    encoder.config.use_cache = False
    torch.testing.assert_close(model.score(tiny.QUERIES, tiny.DOCUMENTS), expected)


def test_positions_that_are_relative_bound_nothing(tmp_path: Path) -> None:
    """XLNet says that it has -1 of them."""
    sizes = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24}
    model = DenseBiEncoder(made(tmp_path, "xlnet", "XLNetModel", **sizes), document_length=64)
    assert model.document_tower.max_length == 64  # the tokenizer's
    assert model.score(tiny.QUERIES, tiny.DOCUMENTS).isfinite().all()


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (
            "flash_attention_2",
            r"needs a package that is not installed: FlashAttention2 .*attn_implementation=flash_atten",
        ),
        (
            "owner/kernel",
            r"needs a package that is not installed: `kernels` .*attn_implementation=owner/kernel may be wh",
        ),
        ("eagre", r'cannot be read as a AutoModel \(Specified `attn_implementation="eagre"` is not supported'),
    ],
)
def test_attention_that_is_not_there_is_named(attention: str, message: str, tmp_path: Path) -> None:
    """In one line, with what to install or to take instead."""
    backbone = HuggingFaceBackbone(str(tiny.bert(tmp_path)), attn_implementation=attention)
    with pytest.raises(UserError, match=message) as raised:
        DenseBiEncoder(backbone)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("quantised", "package"),
    [({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"), ({"quant_method": "awq"}, "gptqmodel")],
    ids=str,
)
def test_quantised_weights_without_their_package_are_named(
    quantised: dict[str, Any], package: str, tmp_path: Path
) -> None:
    """What reads them, and how to get it."""
    folder = tiny.bert(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantised}))
    with pytest.raises(UserError, match=f"needs a package that is not installed: .*pip install .*{package}"):
        load(folder)
