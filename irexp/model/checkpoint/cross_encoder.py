"""Cross-encoder checkpoints: sentence-transformers' CrossEncoder, and monoBERT.

CrossEncoder          a sequence classifier with one maximum length per pair; the activation of its score is in
                      config_sentence_transformers.json (version 6) or config.json (before), by default Sigmoid
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
from irexp.model.checkpoint.modules import ModuleBackbone, read_config, read_routes, warn_of_chat_template
from irexp.model.cross_encoder import ScoreActivation
from irexp.types import UserError

if TYPE_CHECKING:
    from irexp.model.mono import Mono

#: The type of the first module of a list of modules.
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"


def recognises(content: Content) -> bool:
    """Whether it is a CrossEncoder's list of modules, or a sequence classifier by its architecture or weights."""
    if content.is_listed:
        return bool(read_config(content.folder).get("model_type") == "CrossEncoder")
    if content.architecture:
        return content.architecture.endswith("ForSequenceClassification")
    return any(name.startswith("classifier.") for name in content.weights)


def save(model: Mono, folder: Path) -> None:
    """Write a model in the format of sentence-transformers, for old and new versions.

    sentence-transformers truncates the pair as a whole, at the longest pair that irexp reads. So both give the same
    scores as long as no query and no document exceeds its own length.
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
    """Write the settings of a Transformer module.

    Args:
        folder: the module's folder.
        task: the task, as transformers names it.
        output: sentence-transformers' name for the module's output.
        more: maximum lengths.
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
    """The import path of an activation's class."""
    module = "linear" if activation == "Identity" else "activation"
    return f"torch.nn.modules.{module}.{activation}"


def load(family: type[Mono], folder: Path, wanted: Wanted) -> Mono:
    """Load a sequence classifier with one or two logits.

    Raises:
        UserError: if a module or setting is not supported, or a weight is missing or unexpected.
    """
    settings, config = read_optional(folder / SETTINGS), read_config(folder)
    (transformer, *more), _ = read_routes(folder)
    if more or transformer.kind != "Transformer":
        raise UserError(
            f"{folder}: the modules {', '.join(module.kind for module in (transformer, *more))} are not supported in a "
            f"cross-encoder; supported: Transformer, alone or with LogitScore"
        )
    backbone = ModuleBackbone(transformer.folder, trust_remote_code=wanted.trust_remote_code)
    architecture = backbone.load_config()
    labels: Any = architecture.num_labels
    if labels not in (1, 2):
        raise UserError(f"{folder}: a classifier of {labels} classes is not a re-ranker, which has one or two logits")
    if not folder.joinpath("modules.json").is_file():
        warn_of_chat_template(folder)
    limit = backbone.lengths(by_side=False)["document_length"]
    lengths = {"query_length": limit, "document_length": limit}
    model = family(
        backbone,
        labels=labels,
        activation=read_activation(folder, config, architecture.to_dict(), "Sigmoid" if labels == 1 else "Identity"),
        query_prompt=default_prompt(config),
        has_head=True,
        **wanted.name_and_lengths(folder, lengths | settings),
    )
    limit = settings.get("longest") if settings else limit
    if model.longest is not None and limit is not None:
        model.longest = min(model.longest, limit)
    return model


def default_prompt(config: dict[str, Any]) -> str:
    """The prompt put in front of a pair if no other is chosen."""
    return (config.get("prompts") or {}).get(config.get("default_prompt_name") or "") or ""


def read_activation(
    folder: Path, config: dict[str, Any], architecture: dict[str, Any], default: str
) -> ScoreActivation:
    """The activation that a checkpoint names, else the default."""
    new = config.get("activation_fn")
    old = (architecture.get("sentence_transformers") or {}).get("activation_fn")
    oldest = architecture.get("sbert_ce_default_activation_function")
    return check_activation(str(new or old or oldest or default).rpartition(".")[2], folder)


def check_activation(activation: str, folder: Path) -> ScoreActivation:
    """An activation that a file names.

    Raises:
        UserError: if it is not supported.
    """
    if activation not in get_args(ScoreActivation):
        raise UserError(
            f"{folder}: the activation {activation} is not supported; supported: {', '.join(get_args(ScoreActivation))}"
        )
    return cast(ScoreActivation, activation)
