"""Cross-encoders' checkpoints: sentence-transformers' CrossEncoder, and monoBERT.

CrossEncoder          a sequence classifier, read up to one length for both texts; the activation of its score in
                      config_sentence_transformers.json (version 6) or in config.json (before), Sigmoid where none is
monoBERT              a sequence classifier with two logits
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from irexp.model.checkpoint.files import (
    SETTINGS,
    Content,
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
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.mono import Mono

#: The type of the module that a list of modules begins with.
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"


def recognises(content: Content) -> bool:
    """A list of modules of a CrossEncoder; without one a sequence classifier, which older folders name by weights."""
    if content.is_listed:
        return bool(read_config(content.folder).get("model_type") == "CrossEncoder")
    if content.architecture:
        return content.architecture.endswith("ForSequenceClassification")
    return any(name.startswith("classifier.") for name in content.weights)


def save(model: Mono, folder: Path) -> None:
    """Write a model in the layout of sentence-transformers, of old and new versions.

    There a pair is cut at one length, which is that of the longest pair that is read here: scores are equal as long as
    no query and no document is longer than its own length.
    """
    write_settings(folder, model, longest=model.longest)
    model.encoder.save_pretrained(folder)
    save_tokenizer(model.tokenizer, folder)
    activation = path_of(model.activation)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"sentence_transformers": {"activation_fn": activation}})
    special = model.tokenizer.num_special_tokens_to_add(pair=True)
    length = min(model.query_length + model.document_length, model.room) + special
    write_transformer(folder, "sequence-classification", "scores", max_seq_length=length)
    prompts = {"prompts": {"query": model.query_prompt}, "default_prompt_name": "query"} if model.query_prompt else {}
    config = {"prompts": {}, **prompts, "activation_fn": activation}
    write_modules(folder, [(TRANSFORMER, "")], model_type="CrossEncoder", **config)


def write_transformer(folder: Path, task: str, output: str, **more: int) -> None:
    """Write how a transformer is called.

    Args:
        folder: the module's.
        task: classification or generation, as transformers names them.
        output: what sentence-transformers calls what comes out.
        more: lengths.
    """
    modality = {"method": "forward", "method_output_name": "logits"}
    modalities: dict[str, Any] = {"text": modality}
    if task == "text-generation":
        modalities["message"] = modality | {"format": "flat"}
    write_json(
        folder / "sentence_bert_config.json",
        {"transformer_task": task, "modality_config": modalities, "module_output_name": output, **more},
    )


def path_of(activation: ScoreActivation) -> str:
    """The class of an activation, as sentence-transformers imports it."""
    module = "linear" if activation == "Identity" else "activation"
    return f"torch.nn.modules.{module}.{activation}"


def load(family: type[Mono], folder: Path, wanted: Wanted) -> Mono:
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
    backbone = ModuleBackbone(transformer.folder, trust_remote_code=wanted.trust_remote_code)
    architecture = backbone.load_config()
    labels: Any = architecture.num_labels
    if labels not in (1, 2):
        raise UserError(f"{folder}: a classifier of {labels} classes is no re-ranker, which has one logit or two")
    lengths = backbone.lengths()
    model = family(
        backbone,
        labels=labels,
        activation=read_activation(folder, config, architecture.to_dict(), "Sigmoid" if labels == 1 else "Identity"),
        query_prompt=default_prompt(config),
        has_head=True,
        **wanted.over(folder, lengths | settings),
    )
    limit = settings.get("longest") if settings else lengths["document_length"]
    if model.longest is not None and limit is not None:
        model.longest = min(model.longest, limit)
    return model


def default_prompt(config: dict[str, Any]) -> str:
    """What is put in front of a pair where no prompt is named."""
    return (config.get("prompts") or {}).get(config.get("default_prompt_name") or "") or ""


def read_activation(
    folder: Path, config: dict[str, Any], architecture: dict[str, Any], default: str
) -> ScoreActivation:
    """The activation that a checkpoint names, else the default of sentence-transformers."""
    new = config.get("activation_fn")
    old = (architecture.get("sentence_transformers") or {}).get("activation_fn")
    oldest = architecture.get("sbert_ce_default_activation_function")
    return check_activation((new or old or oldest or default).rpartition(".")[2], folder)


def check_activation(activation: str, folder: Path) -> ScoreActivation:
    """An activation that a file names, if it is one of those that are understood."""
    if activation not in get_args(ScoreActivation):
        raise UserError(
            f"{folder}: the activation {activation} is not understood; {', '.join(get_args(ScoreActivation))} are"
        )
    return cast(ScoreActivation, activation)
