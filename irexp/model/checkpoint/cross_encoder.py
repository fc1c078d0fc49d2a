"""Cross-encoder checkpoints: sentence-transformers' CrossEncoder, monoBERT, monoT5, RankT5, decoders with LogitScore.

CrossEncoder          a sequence classifier, read up to one length for both texts; the activation of its score in
                      config_sentence_transformers.json (version 6) or in config.json (before), Sigmoid where none is
monoBERT              a sequence classifier with two logits
monoT5, RankT5        a T5 with nothing beside it: what is read and which token is looked at is the configuration's
decoders              a list of modules that ends in LogitScore; what is read is the tokenizer's chat template
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

from transformers import AutoTokenizer

from irexp.model.checkpoint.files import (
    SETTINGS,
    Wanted,
    read_json,
    read_optional,
    save_tokenizer,
    write_json,
    write_modules,
    write_settings,
)
from irexp.model.checkpoint.modules import ModuleBackbone, read_config, read_routes
from irexp.model.cross_encoder import ScoreActivation
from irexp.model.mono import Mono
from irexp.model.token_logit import TokenLogit
from irexp.types import UserError

_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"

#: How a chat template of sentence-transformers names the two texts.
_PLACES = {
    "{query}": "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}",
    "{document}": "{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}",
}

_TOKEN_LOGIT = ("template", "true_token", "false_token", "score", "special_tokens", "activation")


def save_mono(model: Mono, folder: Path) -> None:
    """Write a model in the layout of sentence-transformers, of old and new versions.

    There a pair is cut at one length, which is that of the longest pair that is read here: scores are equal as long as
    no query and no document is longer than its own length.
    """
    write_settings(folder, model, "mono", longest=model.longest)
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    activation = _path_of(model.activation)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"sentence_transformers": {"activation_fn": activation}})
    special = model.tokenizer.num_special_tokens_to_add(pair=True)
    length = min(model.query_length + model.document_length, model.room) + special
    _write_transformer(folder, "sequence-classification", "scores", max_seq_length=length)
    prompts = {"prompts": {"query": model.query_prompt}, "default_prompt_name": "query"} if model.query_prompt else {}
    config = {"prompts": {}, **prompts, "activation_fn": activation}
    write_modules(folder, [(_TRANSFORMER, "")], model_type="CrossEncoder", **config)


def save_token_logit(model: TokenLogit, folder: Path) -> None:
    """Write a model; a decoder's goes into the layout of sentence-transformers, with its template as chat template."""
    values = (model.template, model.true_token, model.false_token, model.score_of, model.special_tokens)
    settings = dict(zip(_TOKEN_LOGIT, (*values, model.activation), strict=True))
    write_settings(folder, model, "token_logit", **settings)
    is_decoder = not model.encoder.config.is_encoder_decoder
    if is_decoder:
        template = model.template
        for place, jinja in _PLACES.items():
            template = template.replace(place, jinja)
        model.tokenizer.chat_template = template
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    if not is_decoder or (model.score_of == "log_probability" and model.false_token is not None):
        return  # sentence-transformers scores by the difference of the logits
    length = model.query_length + model.document_length + model.template_length
    _write_transformer(folder, "text-generation", "causal_logits", max_seq_length=min(length, model.longest or length))
    (folder / "1_LogitScore").mkdir(exist_ok=True)
    ids = dict(zip(("true_token_id", "false_token_id"), model.token_ids[::-1], strict=False))
    write_json(folder / "1_LogitScore" / "config.json", {"module_input_name": "causal_logits", **ids})
    write_modules(
        folder,
        [(_TRANSFORMER, ""), (_LOGIT_SCORE, "1_LogitScore")],
        model_type="CrossEncoder",
        prompts={},
        activation_fn=_path_of(model.activation),
    )


def _write_transformer(folder: Path, task: str, output: str, **more: int) -> None:
    modality = {"method": "forward", "method_output_name": "logits"}
    modalities: dict[str, Any] = {"text": modality}
    if task == "text-generation":
        modalities["message"] = modality | {"format": "flat"}
    write_json(
        folder / "sentence_bert_config.json",
        {"transformer_task": task, "modality_config": modalities, "module_output_name": output, **more},
    )


def _path_of(activation: ScoreActivation) -> str:
    module = "linear" if activation == "Identity" else "activation"
    return f"torch.nn.modules.{module}.{activation}"


def load_mono(folder: Path, wanted: Wanted) -> Mono:
    """Open a sequence classifier with one logit or two.

    Raises:
        UserError: if there is a module or a setting that is not understood, or a weight is missing or left over.
    """
    settings, config = read_optional(folder / SETTINGS), read_config(folder)
    (transformer, *more), _ = read_routes(folder)
    if more or transformer.kind != "Transformer":
        raise UserError(
            f"{folder}: the modules {', '.join(module.kind for module in (transformer, *more))} are not understood by "
            f"a cross-encoder; a Transformer alone, or with LogitScore, is"
        )
    backbone = ModuleBackbone(transformer.folder)
    architecture = backbone.load_config()
    labels: Any = architecture.num_labels
    if labels not in (1, 2):
        raise UserError(f"{folder}: a classifier of {labels} classes is no re-ranker, which has one logit or two")
    lengths = backbone.lengths()
    model = Mono(
        backbone,
        labels=labels,
        activation=_activation(folder, config, architecture.to_dict(), "Sigmoid" if labels == 1 else "Identity"),
        query_prompt=_default_prompt(config),
        has_head=True,
        **wanted.over(folder, lengths | settings),
    )
    limit = settings.get("longest") if settings else lengths["document_length"]
    if model.longest is not None and limit is not None:
        model.longest = min(model.longest, limit)
    return model


def _default_prompt(config: dict[str, Any]) -> str:
    """What is put in front of a pair where no prompt is named."""
    return (config.get("prompts") or {}).get(config.get("default_prompt_name") or "") or ""


def load_token_logit(folder: Path, wanted: Wanted) -> TokenLogit:
    """Open a language model; where it says nothing of its template and tokens, they are the configured model's."""
    settings = read_optional(folder / SETTINGS)
    backbone = ModuleBackbone(folder)
    lengths: dict[str, Any] = {}
    if settings.get("family") != "token_logit":
        settings = {key: wanted.like[key] for key in _TOKEN_LOGIT if key in wanted.like}
        if (folder / "modules.json").is_file():
            settings |= _of_logit_score(folder)
            lengths = backbone.lengths()
    said = {key: settings[key] for key in _TOKEN_LOGIT if key in settings}
    return TokenLogit(backbone, **said, **wanted.over(folder, lengths | settings))


def _of_logit_score(folder: Path) -> dict[str, Any]:
    """What the list of modules and the chat template say."""
    modules = {module.kind: module.folder for module in read_routes(folder)[1]}
    if list(modules) != ["Transformer", "LogitScore"]:
        raise UserError(f"{folder}: the modules {', '.join(modules)} are not understood; Transformer, LogitScore are")
    ids = read_json(modules["LogitScore"] / "config.json")
    config = read_config(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": place.strip("{}"), "content": place} for place in _PLACES]
    if prompt := _default_prompt(config):
        messages = [{"role": "system", "content": prompt}, *messages]
    template = tokenizer.apply_chat_template(messages, tokenize=False)
    false_id = ids.get("false_token_id")
    return {
        "template": template,
        "true_token": tokenizer.convert_ids_to_tokens(ids["true_token_id"]),
        "false_token": None if false_id is None else tokenizer.convert_ids_to_tokens(false_id),
        "score": "log_odds",
        "special_tokens": False,
        "activation": _activation(folder, config, {}, "Sigmoid"),
    }


def _activation(folder: Path, config: dict[str, Any], architecture: dict[str, Any], default: str) -> ScoreActivation:
    """The activation that a checkpoint names, else the default of sentence-transformers."""
    new = config.get("activation_fn")
    old = (architecture.get("sentence_transformers") or {}).get("activation_fn")
    oldest = architecture.get("sbert_ce_default_activation_function")
    activation = (new or old or oldest or default).rpartition(".")[2]
    if activation not in get_args(ScoreActivation):
        raise UserError(
            f"{folder}: the activation {activation} is not understood; {', '.join(get_args(ScoreActivation))} are"
        )
    return cast(ScoreActivation, activation)
