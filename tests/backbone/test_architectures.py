"""Architectures other than BERT: they are read correctly, or refused before any work is done."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from irexp import load
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.tokenizer import _RESERVE_POSITIONS, max_positions
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

#: Settings that some model types require.
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
    """A tiny model of some type, with the tokenizer of the tiny BERT."""
    config = transformers.AutoConfig.for_model(kind, vocab_size=len(tiny.WORDS), **settings)
    maker = getattr(transformers, head)
    make = maker.from_config if head.startswith("Auto") else maker
    return HuggingFaceBackbone(str(tiny.make(folder, make, config)))


@pytest.mark.parametrize("kind", ["bert", *_RESERVE_POSITIONS])
def test_max_positions_is_the_longest_readable_sequence(kind: str) -> None:
    """A sequence of that length has finite vectors, and one token more is an error of the encoder."""
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


def test_an_encoder_decoder_without_a_class_for_its_encoder_is_refused(tmp_path: Path) -> None:
    """sentence-transformers would run BART's decoder, too, and find no weights for it in a checkpoint of irexp."""
    backbone = made(tmp_path / "bart", "bart", "BartForConditionalGeneration", **BART)
    with pytest.raises(UserError, match="bart: transformers has no class for the encoder of a bart alone"):
        DenseBiEncoder(backbone)


def test_a_bert_within_a_dpr_model_is_named(tmp_path: Path) -> None:
    """Its output has no vectors of tokens; the BERT in it, saved as the message says, is a backbone."""
    backbone = made(tmp_path / "dpr", "dpr", "DPRQuestionEncoder", **SIZES)
    message = r"a DPRQuestionEncoder returns no vectors .*\.question_encoder\.bert_model\.save_pretrained\('bert'\)"
    with pytest.raises(UserError, match=message):
        DenseBiEncoder(backbone)
    inner = transformers.DPRQuestionEncoder.from_pretrained(tmp_path / "dpr").question_encoder.bert_model
    inner.save_pretrained(tmp_path / "bert")
    path = tmp_path / "bert" / "config.json"
    path.write_text(path.read_text().replace('"model_type": "dpr"', '"model_type": "bert"'))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bert" / name).write_bytes((tmp_path / "dpr" / name).read_bytes())
    assert DenseBiEncoder(HuggingFaceBackbone(str(tmp_path / "bert"))).embedding_dim == 16


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
    """A head whose logits are not the product of hidden states and one matrix is refused, not pooled incorrectly."""
    with pytest.raises(UserError, match=f"model=splade: the logits of a {head} are not a linear function"):
        SPLADE(made(tmp_path, kind, head, **settings))


@pytest.mark.parametrize(
    ("kind", "head"), [("deberta-v2", "DebertaV2ForMaskedLM"), ("electra", "ElectraForMaskedLM")], ids=str
)
def test_heads_that_end_with_one_matrix_are_pooled(tmp_path: Path, kind: str, head: str) -> None:
    """The pooled weights equal those of transformers' own logits, for heads built differently than BERT's."""
    backbone = made(tmp_path, kind, head, **SIZES)
    model = SPLADE(backbone).eval()
    ids = model.tokenize_queries(tiny.QUERIES[:1])
    with torch.no_grad():
        logits = backbone.load_masked_lm()(input_ids=torch.tensor(ids)).logits[0]
    weight = torch.from_numpy(model.embed_queries(tiny.QUERIES[:1]).toarray())[0]  # type: ignore[union-attr]
    torch.testing.assert_close(weight, torch.log1p(logits.relu().amax(dim=0)))


def test_a_classifier_with_other_labels_gets_a_new_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A head of three classes is replaced, a head of one logit is kept, and an encoder of another shape is refused."""
    three, one = (
        HuggingFaceBackbone(str(tiny.bert(tmp_path / name, "BertForSequenceClassification", num_labels=labels)))
        for name, labels in (("three", 3), ("one", 1))
    )
    model = Mono(three)
    assert model.score("list", tiny.DOCUMENTS).shape == (4,)
    message = "a head with another number of labels is initialised again: classifier.bias, classifier.weight"
    assert message in caplog.text
    saved = one.load_classifier(1, has_head=True).state_dict()["classifier.weight"]
    torch.testing.assert_close(Mono(one).encoder.state_dict()["classifier.weight"], saved)
    path = tmp_path / "one" / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 24', '"intermediate_size": 32'))
    with pytest.raises(UserError, match=r"intermediate\.dense\.bias has the shape \(24,\), but .* requires \(32,\)"):
        Mono(one)


def test_a_decoder_without_a_padding_token_is_refused_as_a_cross_encoder(tmp_path: Path) -> None:
    """Its classification head reads the last token before the padding, so scores would be wrong."""
    folder = tiny.decoder(tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "[PAD]", ', ""))
    with pytest.raises(UserError, match="has no padding token, which a ArceeForSequenceClassification needs"):
        Mono(HuggingFaceBackbone(str(folder)))


XLNET: dict[str, Any] = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24, "initializer_range": 0.5}


def test_a_classifier_that_reads_padding_is_refused(tmp_path: Path) -> None:
    """XLNet's reads the last position; a decoder's the last token that is not config.json's padding token."""
    with pytest.raises(UserError, match="a XLNetForSequenceClassification would read the padding of its batch"):
        Mono(made(tmp_path / "xlnet", "xlnet", "XLNetForSequenceClassification", **XLNET, num_labels=1))
    llama = made(tmp_path / "llama", "llama", "LlamaForSequenceClassification", **DECODER, pad_token_id=3, num_labels=1)
    with pytest.raises(UserError, match=r"pad_token_id=3 in config\.json is not the tokenizer's, 0"):
        Mono(llama)


def test_bigbirds_vectors_do_not_depend_on_what_was_encoded_before(tmp_path: Path) -> None:
    """Its sparse attention is left at the first text shorter than some blocks, and for all later ones."""
    sizes = SIZES | {"max_position_embeddings": 64, "block_size": 2, "num_random_blocks": 1, "initializer_range": 0.5}
    model = DenseBiEncoder(made(tmp_path, "big_bird", "BigBirdModel", **sizes), document_length=64).eval()
    long = ["list all buckets and delete the queue of an instance " * 4]
    before = model.embed_documents(long)
    model.embed_documents(["list"])
    np.testing.assert_array_equal(model.embed_documents(long), before)


DECODER: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3}


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
@pytest.mark.parametrize("family", [DenseBiEncoder, COIL, Mono, TokenLogit])
def test_a_decoder_does_not_fill_its_cache(kind: str, family: type[Any], tmp_path: Path) -> None:
    """A key-value cache would only cost memory, since nothing is generated; the scores are the same without it."""
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
    assert encoder(input_ids=ids).past_key_values is not None  # its default
    encoder.config.use_cache = False
    torch.testing.assert_close(model.score(tiny.QUERIES, tiny.DOCUMENTS), expected)


def test_relative_positions_do_not_limit_the_length(tmp_path: Path) -> None:
    """XLNet's max_position_embeddings is -1, which must not become the maximum length."""
    model = DenseBiEncoder(made(tmp_path, "xlnet", "XLNetModel", **XLNET), document_length=64)
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
            r"needs a package that is not installed: `kernels` .*attn_implementation=owner/kernel may requ",
        ),
        ("eagre", r"backbone\.attn_implementation=eagre: there is no such attention; choose one of eager, sdpa"),
    ],
)
def test_an_unavailable_attention_implementation_is_named(attention: str, message: str, tmp_path: Path) -> None:
    """The error is one line with the package to install or the valid names."""
    backbone = HuggingFaceBackbone(str(tiny.bert(tmp_path)), attn_implementation=attention)
    with pytest.raises(UserError, match=message) as raised:
        DenseBiEncoder(backbone)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "quantised", [{"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "awq"}], ids=str
)
def test_quantised_weights_are_refused(quantised: dict[str, Any], tmp_path: Path) -> None:
    """The error names the kind of quantisation and what to use instead."""
    folder = tiny.bert(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantised}))
    with pytest.raises(UserError, match=rf"quantised weights \({quantised['quant_method']}\), .*; name the checkpoint"):
        load(folder)
