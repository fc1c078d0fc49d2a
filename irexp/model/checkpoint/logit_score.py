"""Checkpoints of re-rankers that score by a token's logit: monoT5, RankT5, sentence-transformers' LogitScore.

monoT5, RankT5        a bare T5; the template and the tokens come from the configuration
decoders              a list of modules that ends in LogitScore; the template is the tokenizer's chat template
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from irexp.model.checkpoint.cross_encoder import (
    TRANSFORMER,
    check_activation,
    default_prompt,
    path_of,
    read_activation,
    write_transformer,
)
from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
    Wanted,
    read_optional,
    read_required,
    save_tokenizer,
    write_json,
    write_modules,
    write_settings,
)
from irexp.model.checkpoint.modules import ModuleBackbone, read_config, read_routes
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.token_logit import TokenLogit

_LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"

#: The two texts in irexp's templates, and in chat templates of sentence-transformers.
_PLACES = {
    "{query}": "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}",
    "{document}": "{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}",
}

_TOKEN_LOGIT = ("template", "true_token", "false_token", "score", "special_tokens", "activation")


def recognises(content: Content) -> bool:
    """Whether the list of modules contains LogitScore."""
    routes = read_routes(content.folder) if content.is_listed else ()
    return any(module.kind == "LogitScore" for route in routes for module in route)


def save(model: TokenLogit, folder: Path) -> None:
    """Write a model; a decoder in sentence-transformers' format, with its template as chat template."""
    values = (model.template, model.true_token, model.false_token, model.score_of, model.special_tokens)
    settings = dict(zip(_TOKEN_LOGIT, (*values, model.activation), strict=True))
    write_settings(folder, model, **settings)
    is_decoder = not model.encoder.config.is_encoder_decoder
    if is_decoder:
        template = model.template
        for place, jinja in _PLACES.items():
            template = template.replace(place, jinja)
        model.tokenizer.chat_template = template
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    if not is_decoder or (model.score_of == "log_probability" and model.false_token is not None):
        return  # LogitScore is a decoder's logit, or the difference of two
    length = model.query_length + model.document_length + model.template_length
    write_transformer(folder, "text-generation", "causal_logits", max_seq_length=min(length, model.longest or length))
    (folder / "1_LogitScore").mkdir(exist_ok=True)
    ids = dict(zip(("true_token_id", "false_token_id"), model.token_ids[::-1], strict=False))
    write_json(folder / "1_LogitScore" / "config.json", {"module_input_name": "causal_logits", **ids})
    write_modules(
        folder,
        [(TRANSFORMER, ""), (_LOGIT_SCORE, "1_LogitScore")],
        model_type="CrossEncoder",
        prompts={},
        activation_fn=path_of(model.activation),
    )


def load(family: type[TokenLogit], folder: Path, wanted: Wanted) -> TokenLogit:
    """Load a language model; without a template and tokens of its own it gets the configured model's."""
    settings = read_optional(folder / SETTINGS)
    backbone = ModuleBackbone(folder, trust_remote_code=wanted.trust_remote_code)
    lengths: dict[str, Any] = {}
    if not settings:
        settings = {key: wanted.like[key] for key in _TOKEN_LOGIT if key in wanted.like}
        if (folder / "modules.json").is_file():
            settings |= _of_logit_score(folder, backbone)
            lengths = backbone.lengths()
    said = {key: settings[key] for key in _TOKEN_LOGIT if key in settings}
    check_activation(said.get("activation", "Identity"), folder)
    return family(backbone, **said, **wanted.name_and_lengths(folder, lengths | settings))


def _of_logit_score(folder: Path, backbone: ModuleBackbone) -> dict[str, Any]:
    """Template, tokens and activation, from the list of modules and the chat template."""
    modules = {module.kind: module.folder for module in read_routes(folder)[1]}
    if list(modules) != ["Transformer", "LogitScore"]:
        raise UserError(
            f"{folder}: the modules {', '.join(modules)} are not supported; supported: Transformer, LogitScore"
        )
    ids = read_required(modules["LogitScore"] / "config.json", true_token_id=int)
    config = read_config(folder)
    tokenizer: Any = backbone.load_tokenizer()
    if not backbone.fills_chat_template or not tokenizer.chat_template:
        raise UserError(
            f"{folder}: LogitScore without a chat template (in its tokenizer, and as message in modality_config of "
            f"sentence_bert_config.json) is not supported"
        )
    if tokenizer.truncation_side == "left":
        raise UserError(
            f"{folder}: truncation_side=left in its tokenizer_config.json is not supported with LogitScore, since it "
            f"would cut the template; set it to right"
        )
    messages = [{"role": place.strip("{}"), "content": place} for place in _PLACES]
    if prompt := default_prompt(config):
        messages = [{"role": "system", "content": prompt}, *messages]
    try:
        template = tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError as error:  # transformers runs the template in a sandbox
        raise UserError(f"{folder}: its chat template cannot be filled ({error})") from error
    false_id = ids.get("false_token_id")
    return {
        "template": template,
        "true_token": tokenizer.convert_ids_to_tokens(ids["true_token_id"]),
        "false_token": None if false_id is None else tokenizer.convert_ids_to_tokens(false_id),
        "score": "log_odds",
        "special_tokens": False,
        "activation": read_activation(folder, config, {}, "Sigmoid"),
    }
