"""LoRA on every family: frozen and trained weights; saving, loading and merging of adapters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoTokenizer, BertForSequenceClassification, BertModel

from irexp import load, save
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.adapter import write_recipe
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.linear_mono import LinearMono
from irexp.model.lora import adapted, add_lora, load_adapter, merge, save_adapter, transformers_of
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from irexp.types import UserError
from tests import tiny

Recipe = Callable[..., Any]

#: A recipe of each family with settings that differ from its defaults, without backbones.
RECIPES: dict[str, Recipe] = {
    "dense": partial(DenseBiEncoder, projection_dim=4, pooling="max", query_prompt="list "),
    "two_towers": partial(DenseBiEncoder, pooling="cls", similarity="dot"),
    "splade": partial(SPLADE, query_encoding="static", pooling="sum"),
    "unicoil": UniCOIL,
    "coil": partial(COIL, token_dim=4, cls_dim=6),
    "colbert": partial(ColBERT, dim=4, query_marker="[Q]", mask_punctuation=False),
    "xtr": partial(XTR, dim=4, k_train=7),
    "mvr": partial(MVR, viewers=3),
    "mono": partial(Mono, labels=2, activation="Sigmoid"),
    "linear_mono": partial(LinearMono, labels=2, bias=True),
    "set_encoder": partial(SetEncoder, extra_token=True),
    "t5": partial(TokenLogit, true_token="yes", false_token=None),
    "decoder": partial(TokenLogit, true_token="yes", false_token="no", score="log_odds"),
    "repllama": partial(DenseBiEncoder, pooling="last", append_eos=True),
}

FAMILIES = list(RECIPES)


def recipe(family: str, folder: Path) -> partial[Model]:
    """A tiny model as a partial, as a configuration gives it."""
    folder.mkdir(exist_ok=True)
    if family in ("decoder", "repllama"):
        place = tiny.decoder(folder)
    else:
        place = tiny.t5(folder) if family == "t5" else tiny.bert(folder, "BertForMaskedLM")
    more: dict[str, Any] = {"query_length": 12, "document_length": 20, "name": family}
    if family == "two_towers":
        more["query_backbone"] = HuggingFaceBackbone(str(tiny.bert(folder / "other", num_hidden_layers=1)))
    return partial(RECIPES[family], backbone=HuggingFaceBackbone(str(place)), **more)


def made(family: str, folder: Path) -> Model:
    """A tiny model, with seeded new layers."""
    call = recipe(family, folder)
    torch.manual_seed(3)
    return call().eval()


def lora(family: str) -> LoraConfig:
    """An adapter; for a model type without default layers in peft, one of all linear layers."""
    kind = "decoder" if family in ("decoder", "repllama") else "encoder"
    return LoraConfig(r=2, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear" if kind == "decoder" else None)


def trained(family: str, folder: Path) -> Model:
    """A model with adapters and noise on all trainable weights."""
    model = made(family, folder)
    add_lora(model, lora(family))
    torch.manual_seed(4)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_trained_and_the_transformer_is_not(family: str, tmp_path: Path) -> None:
    """Adapters, heads, projections and new tokens are trainable; the transformer's own weights are frozen."""
    model = made(family, tmp_path / "start")
    before = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    add_lora(model, lora(family))
    torch.testing.assert_close(model.score(tiny.QUERIES, tiny.DOCUMENTS), before)  # B is zero at first
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    heads = {"dense": "projections", "splade": "predictions.transform", "colbert": "projections", "mono": "classifier"}
    assert any("lora_A" in name for name in names)
    assert family not in heads or any(heads[family] in name for name in names)
    own = [n for n in names if "lora_" not in n and "attention" in n]
    assert own == []
    assert any("word_embeddings" in name for name in names) == (family in ("colbert", "mvr", "set_encoder"))
    if family == "mono":
        assert any("pooler" in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_half_precision_backbone_scores_closely_and_has_fp32_adapters(family: str, tmp_path: Path) -> None:
    """Without autocast, adapters and the layers on top must be in fp32: in bf16 small steps would be lost."""
    full = made(family, tmp_path / "start").score(tiny.QUERIES, tiny.DOCUMENTS)
    call = recipe(family, tmp_path / "start")
    call.keywords["backbone"].dtype = "bfloat16"
    torch.manual_seed(3)
    model = call().eval()
    half = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    # The eps of bfloat16 is 0.8 %: two dozen roundings add up to 2 %, and to more where a score is a difference.
    torch.testing.assert_close(half, full, atol=0.1 * float(full.abs().max()), rtol=0)
    add_lora(model, lora(family))
    assert model.score(tiny.QUERIES, tiny.DOCUMENTS).isfinite().all()
    adapters = {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name}
    assert adapters == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_loaded_and_merged_adapters_score_the_same(family: str, tmp_path: Path) -> None:
    """Scores are equal in the trained model, loaded into a fresh model, merged, and merged and saved."""
    model = trained(family, tmp_path / "start")
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "start"))
    fresh = load_adapter(made(family, tmp_path / "again"), tmp_path / "adapter").eval()
    torch.testing.assert_close(fresh.score(tiny.QUERIES, tiny.DOCUMENTS), expected, atol=1e-5, rtol=1e-5)
    merge(model)
    assert not any("lora_" in name for name, _ in model.named_parameters())
    torch.testing.assert_close(model.score(tiny.QUERIES, tiny.DOCUMENTS), expected, atol=1e-4, rtol=1e-4)
    save(model, tmp_path / "merged")
    opened = load(tmp_path / "merged").score(tiny.QUERIES, tiny.DOCUMENTS)
    torch.testing.assert_close(opened, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapters_folder_loads_as_the_model_it_belongs_to(family: str, tmp_path: Path) -> None:
    """Family, settings, heads and bases come from the folder; the caller may override name and lengths."""
    model = trained(family, tmp_path / "start")
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    call = recipe(family, tmp_path / "start")
    query_base = str(tmp_path / "start" / "other") if family == "two_towers" else None
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "start"), query_base=query_base)
    write_recipe(tmp_path / "adapter", call)
    for like in (None, call):
        opened = load(tmp_path / "adapter", like=like)
        assert type(opened) is type(model)
        assert (opened.name, opened.query_length) == (family, 12)
        torch.testing.assert_close(opened.score(tiny.QUERIES, tiny.DOCUMENTS), expected, atol=1e-4, rtol=1e-4)
        assert not any("lora_" in name for name, _ in opened.named_parameters())
    other = load(tmp_path / "adapter", name="other", query_length=9)
    assert (other.name, other.query_length, other.document_length) == ("other", 9, 20)
    (tmp_path / "adapter" / "trained.safetensors").unlink()
    with pytest.raises(UserError, match=r"trained\.safetensors, .*weights trained with the adapters, is missing"):
        load(tmp_path / "adapter")


def test_adapters_without_a_recipe_load_as_the_configured_model_only(tmp_path: Path) -> None:
    """A bare transformer with adapters could be any model: without a configuration it is refused, not guessed."""
    model = trained("decoder", tmp_path / "start")
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "start"))
    with pytest.raises(UserError, match=r"a bare transformer, and no file names the model; name it with load\("):
        load(tmp_path / "adapter")
    opened = load(tmp_path / "adapter", like=recipe("decoder", tmp_path / "start"))
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    torch.testing.assert_close(opened.score(tiny.QUERIES, tiny.DOCUMENTS), expected, atol=1e-4, rtol=1e-4)
    (tmp_path / "adapter" / "irexp.json").write_text('{"adapter_of": "Future"}')
    with pytest.raises(UserError, match=r"the family 'Future' is not known; .*colbert, .*xtr are"):
        load(tmp_path / "adapter")


def test_adapters_of_another_transformer_are_refused(tmp_path: Path) -> None:
    """A decoder's adapters do not fit a BERT's layers: the error says so."""
    save_adapter(trained("decoder", tmp_path / "start"), tmp_path / "adapter", base=str(tmp_path / "start"))
    with pytest.raises(UserError, match=r"adapter: .*; these are not adapters of a BertModel"):
        load_adapter(made("colbert", tmp_path / "other"), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft's own loading
def test_an_adapters_folder_loads_on_the_base_that_it_names(tmp_path: Path) -> None:
    """adapter_config.json names the base, as for castorini's RepLLaMA; peft's own loading gives the same vectors."""
    from peft import PeftModel
    from transformers import AutoModel

    folder = tiny.decoder(tmp_path / "base", "ArceeModel")
    model = DenseBiEncoder(HuggingFaceBackbone(str(folder)), pooling="last", similarity="dot").eval()
    add_lora(model, LoraConfig(r=2, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_adapter(model, tmp_path / "adapter", base=str(folder))
    like: Any = partial(DenseBiEncoder, pooling="last", similarity="dot")
    opened = load(tmp_path / "adapter", like=like)
    expected = model.score(tiny.QUERIES, tiny.DOCUMENTS)
    torch.testing.assert_close(opened.score(tiny.QUERIES, tiny.DOCUMENTS), expected, atol=1e-3, rtol=1e-4)
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), str(tmp_path / "adapter")).eval()
    ids = model.tokenize_queries(tiny.QUERIES[:1])
    with torch.no_grad():
        vector = theirs(input_ids=torch.tensor(ids)).last_hidden_state[0, -1]
    torch.testing.assert_close(torch.from_numpy(model.embed_queries(tiny.QUERIES[:1]))[0], vector, atol=1e-4, rtol=1e-4)


def test_adapters_that_could_not_be_merged_are_refused_before_training(tmp_path: Path) -> None:
    """IA3 has no common way to be merged, and a module to save would be a second copy in the saved checkpoint."""
    model = made("mono", tmp_path / "start")
    with pytest.raises(UserError, match=r"adapter: adapters of type IA3 are not supported; supported: LORA"):
        add_lora(model, IA3Config(target_modules=["query"], feedforward_modules=[]))  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match=r"adapter\.modules_to_save=\['classifier'\] is not supported: the layers on top"
    ):
        add_lora(model, LoraConfig(target_modules=["query"], modules_to_save=["classifier"]))
    for more in ({"bias": "all"}, {"trainable_token_indices": [7]}):
        with pytest.raises(UserError, match=rf"adapter\.{next(iter(more))}=.* only adapters are trained; leave it out"):
            add_lora(model, LoraConfig(target_modules=["query"], **more))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft
def test_tokens_that_peft_trained_are_merged(tmp_path: Path) -> None:
    """The vectors equal peft's, also after the merged model is saved and loaded."""
    base = BertModel.from_pretrained(tiny.bert(tmp_path / "base"), add_pooling_layer=False)
    theirs = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], trainable_token_indices=[13, 18])).eval()
    for parameter in (parameter for parameter in theirs.parameters() if parameter.requires_grad):
        torch.nn.init.normal_(parameter, std=0.4)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    ours = load(tmp_path / "adapter", like=partial(DenseBiEncoder, pooling="cls"))  # type: ignore[arg-type]
    assert isinstance(ours, DenseBiEncoder)
    with torch.no_grad():
        found = theirs(input_ids=torch.tensor(ours.tokenize_queries(tiny.QUERIES[:1]))).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(found) if ours.is_normalized else found
    save(ours, tmp_path / "saved")
    for opened in (ours, load(tmp_path / "saved")):
        assert isinstance(opened, DenseBiEncoder)
        vector = torch.from_numpy(opened.embed_queries(tiny.QUERIES[:1]))
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[[str], Any]:
    """Adapters of peft over a tiny classifier, with the head trained as a whole."""

    def make(head: str) -> Any:
        """Save adapters over a base with a head of transformers, and return peft's model."""
        tiny.bert(tmp_path / "base", head, num_labels=1)
        base = BertForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
        config = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
        model = get_peft_model(base, config).eval()
        for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
            torch.nn.init.normal_(parameter, std=0.4)
        model.save_pretrained(str(tmp_path / "adapter"))
        return model

    return make


def test_each_name_of_a_target_must_be_that_of_a_module(tmp_path: Path) -> None:
    """Peft adapts those that it finds, and says nothing of the others."""
    model = made("mono", tmp_path / "start")
    with pytest.raises(UserError, match=r"has no module 'vlaue'; name layers in adapter\.target_modules"):
        add_lora(model, LoraConfig(target_modules=["query", "vlaue"]))
    add_lora(model, LoraConfig(target_modules=["query", "value"]))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft
def test_modules_that_peft_trained_as_a_whole_replace_the_bases(classifier: Any, tmp_path: Path) -> None:
    """The scores equal peft's, also after the merged model is saved and loaded."""
    theirs = classifier("BertForSequenceClassification")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    inputs = [tokenizer(tiny.QUERIES[0], document, return_tensors="pt") for document in tiny.DOCUMENTS]
    with torch.no_grad():
        expected = torch.tensor([torch.sigmoid(theirs(**each).logits).item() for each in inputs])
    for like in (None, partial(Mono)):
        opened = load(tmp_path / "adapter", like=like)  # type: ignore[arg-type]
        torch.testing.assert_close(opened.score(tiny.QUERIES[0], tiny.DOCUMENTS), expected, atol=1e-5, rtol=1e-4)
        save(opened, tmp_path / "saved")
        again = load(tmp_path / "saved").score(tiny.QUERIES[0], tiny.DOCUMENTS)
        torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_adapters_whose_pooler_or_projection_is_nowhere_are_refused(classifier: Any, tmp_path: Path) -> None:
    """A layer in neither the adapters nor their base would be drawn at random: other scores after each loading."""
    classifier("BertForMaskedLM")
    with pytest.raises(UserError, match="is a bare BertForMaskedLM without the parts of a Mono"):
        load(tmp_path / "adapter", like=partial(Mono))  # type: ignore[arg-type]
    save_adapter(trained("decoder", tmp_path / "start"), tmp_path / "other", base=str(tmp_path / "start"))
    like: Any = partial(DenseBiEncoder, pooling="last", projection_dim=4)
    with pytest.raises(UserError, match=r"neither has the weights document_tower\.projections\..* of the con"):
        load(tmp_path / "other", like=like)


def test_an_output_layer_with_the_word_vectors_weights_is_not_adapted(tmp_path: Path) -> None:
    """Merging its adapter would change the embeddings of all words, too."""
    model = made("decoder", tmp_path / "start")
    (encoder,) = transformers_of(model).values()
    encoder.lm_head.weight = encoder.get_input_embeddings().weight
    with pytest.raises(UserError, match=r"adapter\.target_modules: the output layer .* has the weights of the word"):
        add_lora(model, LoraConfig(target_modules=["q_proj", "lm_head"]))


@pytest.mark.parametrize("initial", [True, "pissa", "olora"])
def test_an_error_leaves_the_weights_as_they_were(initial: Any, tmp_path: Path) -> None:
    """Also with adapters whose first product was taken off the weights."""
    model: Any = made("dense", tmp_path / "start").eval()
    before = model.embed_queries(tiny.QUERIES)
    settings = LoraConfig(r=2, target_modules=["query"], init_lora_weights=initial)
    with pytest.raises(RuntimeError), adapted(model, settings):
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data += 1
        raise RuntimeError
    np.testing.assert_allclose(model.embed_queries(tiny.QUERIES), before, rtol=1e-4, atol=1e-5)


def test_target_modules_that_match_no_layer_are_refused(tmp_path: Path) -> None:
    """Otherwise nothing would be adapted; the error names adapter.target_modules."""
    with pytest.raises(UserError, match=r"name layers in adapter\.target_modules"):
        add_lora(made("dense", tmp_path / "start"), LoraConfig(target_modules=["nowhere"]))


def test_all_linear_layers_are_adapted_if_peft_has_no_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For a model type unknown to peft all linear layers are adapted, with a log line; else peft's default layers."""
    for family, expected in (("repllama", "all-linear"), ("dense", None)):
        model = made(family, tmp_path / family)
        caplog.clear()
        with caplog.at_level("INFO"):
            add_lora(model, LoraConfig(r=2))
        adapted = {
            name.rpartition(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_A" in name
        }
        if expected:
            assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
            assert "peft has no default layers for the model type arcee: all linear layers are adapted" in caplog.text
        else:
            assert adapted == {"query", "value"}
            assert "all linear layers" not in caplog.text
