"""The files shared by sentence-transformers and PyLate: a list of modules, prompts, and how texts are tokenized.

modules.json                         the modules and their folders; a Router lists those for queries and for documents
config_sentence_transformers.json    prompts, similarity, and settings of the kind of model
sentence_bert_config.json            in a transformer's folder: maximum length (per side in version 6), lower-casing
adapter_config.json                  in a transformer's folder, instead of config.json: a peft adapter over a base model
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import normalizers

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.tokenizer import max_positions
from irexp.model.checkpoint.files import read_json, read_optional, read_required, write_json
from irexp.model.lora import base_of, is_adapter, merge_adapter, put_adapter
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: The list of modules of a folder whose queries and documents pass through different modules.
ROUTER = [("sentence_transformers.base.modules.router.Router", "")]

#: Settings of a transformer that would change how a text is tokenized or computed, and are not supported.
_NOT_UNDERSTOOD = (
    "processing_kwargs",
    "processor_kwargs",
    "tokenizer_args",
    "config_kwargs",
    "config_args",
    "model_kwargs",
    "model_args",
)

#: What these settings may hold, since it changes no value: how weights are fetched, stored and computed with.
_HARMLESS = {"trust_remote_code", "attn_implementation", "torch_dtype", "dtype", "device_map", "add_pooling_layer"}

#: By the task of a transformer: the output of transformers that it takes, and the name that it gives it.
_OUTPUTS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "fill-mask": ("logits", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
    "text-generation": ("logits", "causal_logits"),
}


@dataclass(frozen=True)
class Module:
    """One module of a list: the last part of its type, which is the same in all versions, and its folder."""

    kind: str
    folder: Path


def read_routes(folder: Path) -> tuple[list[Module], list[Module]]:
    """The modules that queries and documents pass through; a folder without a list is a single transformer.

    Raises:
        UserError: if the list is damaged, names code of the checkpoint, or has other routes than those of queries and
            documents.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return [Module("Transformer", folder)], [Module("Transformer", folder)]
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) and "type" in e for e in entries):
        raise UserError(f"{path} is not a list of modules with a type each; the checkpoint is damaged")
    query: list[Module] = []
    document: list[Module] = []
    for entry in entries:
        module = Module(_kind_of(entry["type"], path), folder / str(entry.get("path") or ""))
        if module.kind == "Router":
            routes = _read_router(module.folder)
            query += routes[0]
            document += routes[1]
        else:
            query.append(module)
            document.append(module)
    return query, document


def _kind_of(path_of_class: Any, place: Path) -> str:
    """The last part of a module's type, if it is one of the libraries'; the class of the same name may be another."""
    library, _, kind = str(path_of_class).rpartition(".")
    if library.partition(".")[0] not in ("sentence_transformers", "pylate"):
        raise UserError(f"{place}: the module {path_of_class} is code of the checkpoint, which is not supported")
    return kind


def _read_router(folder: Path) -> tuple[list[Module], list[Module]]:
    path = folder / "router_config.json"
    said = read_required(path, structure=dict, types=dict)
    structure, types = said["structure"], said["types"]
    if unknown := {str(name) for names in structure.values() for name in names} - types.keys():
        raise UserError(f"{path}: types has no entry for {min(unknown)}; the checkpoint is damaged")
    if sorted(structure) != ["document", "query"] or (said.get("parameters") or {}).get("route_mappings"):
        raise UserError(f"{folder}: a Router of {', '.join(structure)} is not supported; supported: query, document")
    query, document = (
        [Module(_kind_of(types[name], path), folder / name) for name in structure[side]]
        for side in ("query", "document")
    )
    return query, document


def write_router(folder: Path, query: Sequence[tuple[str, str]], document: Sequence[tuple[str, str]]) -> None:
    """Write a Router, which sends queries and documents through different modules; the list of modules is `ROUTER`.

    Args:
        folder: the checkpoint.
        query: type and folder of each module for queries.
        document: type and folder of each module for documents; a folder in both is shared.
    """
    router = {
        "types": {place: kind for kind, place in (*query, *document)},
        "structure": {"query": [place for _, place in query], "document": [place for _, place in document]},
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }
    write_json(folder / "router_config.json", router)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config_sentence_transformers.json."""
    return read_optional(folder / "config_sentence_transformers.json", prompts=dict)


def read_prompts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts that are put in front of texts, those of `encode_query` and `encode_document`.

    An empty prompt counts as given; `default_prompt_name` applies neither to queries nor to documents. The prompt of
    documents may be named `passage` or `corpus`, which `encode_document` looks for, too, but does not find.
    """
    prompts = config.get("prompts") or {}
    document = next((key for key in ("document", "passage", "corpus") if prompts.get(key) is not None), "document")
    if document != "document" and prompts[document]:
        log.warning(
            "the prompt %r named %s is put in front of documents; encode_document of sentence-transformers 6 uses none "
            "unless its name is document",
            prompts[document],
            document,
        )
    return {"query_prompt": prompts.get("query") or "", "document_prompt": prompts.get(document) or ""}


def warn_of_chat_template(folder: Path) -> None:
    """Warn of a bare transformer whose tokenizer has a chat template, which sentence-transformers 6 would fill."""
    described = read_optional(folder / "tokenizer_config.json").get("chat_template")
    if described or (folder / "chat_template.jinja").is_file():
        log.warning(
            "%s is a bare transformer whose tokenizer has a chat template: irexp reads texts as they are, while "
            "sentence-transformers 6 would put each into the template",
            folder,
        )


class ModuleBackbone(HuggingFaceBackbone):
    """The transformer of a checkpoint, with its adapter merged and its tokenizer set up by its settings."""

    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        """Read the settings.

        Raises:
            UserError: if a setting is not supported.
        """
        name = base_of(folder) if is_adapter(folder) else str(folder)
        super().__init__(name, trust_remote_code=trust_remote_code)
        self.folder = folder
        files = sorted(folder.glob("sentence_*_config.json"))
        kinds: dict[str, Any] = dict.fromkeys(("max_seq_length", "query_length", "document_length"), int)
        kinds |= dict.fromkeys((*_NOT_UNDERSTOOD, "modality_config"), dict)
        self.settings: dict[str, Any] = read_optional(files[0], **kinds) if files else {}
        for key in _NOT_UNDERSTOOD:
            if (self.settings.get(key) or {}).keys() - _HARMLESS:
                raise UserError(f"{files[0]}: {key}={self.settings[key]} is not supported")
        if self.settings.get("modality_config"):
            self._check_modalities(files[0])

    @property
    def fills_chat_template(self) -> bool:
        """Whether sentence-transformers puts texts into the tokenizer's chat template."""
        return "message" in (self.settings.get("modality_config") or {})

    def _check_modalities(self, path: Path) -> None:
        """Refuse other inputs of the transformer than texts, and other outputs than those of its task."""
        task = self.settings.get("transformer_task") or "feature-extraction"
        read = "message" if task == "text-generation" and self.fills_chat_template else "text"
        text = self.settings["modality_config"].get(read)
        found = isinstance(text, dict) and (text.get("method"), text.get("method_output_name"))
        if task not in _OUTPUTS or found != ("forward", _OUTPUTS[task][0]):
            raise UserError(
                f"{path}: {read}={text} of transformer_task={task} in its modality_config is not supported; supported: "
                f"the outputs of {', '.join(f'{task} ({output})' for task, (output, _) in _OUTPUTS.items())}"
            )
        if (output := self.settings.get("module_output_name")) != _OUTPUTS[task][1]:
            raise UserError(f"{path}: module_output_name={output} is not supported; supported: {_OUTPUTS[task][1]}")
        if self.fills_chat_template and task != "text-generation":
            raise UserError(
                f"{path}: message in modality_config is not supported: with it sentence-transformers puts each text "
                f"into the tokenizer's chat template. Without it both read texts as they are"
            )

    def longest(self) -> int | None:
        """The transformer's maximum number of tokens; None if there is no limit."""
        return max_positions(self.load_config(), self.load_tokenizer())

    def lengths(self, *, by_side: bool = True) -> dict[str, int | None]:
        """The lengths of queries and documents, within the transformer's maximum; None if no file sets them.

        Args:
            by_side: whether the lengths of queries and documents apply, which they do not where both are one input.
        """
        longest = self.longest()
        limit = self.settings.get("max_seq_length") or longest
        return {
            key: min(length, longest or length) if length else None
            for key in ("query_length", "document_length")
            for length in ((self.settings.get(key) if by_side else None) or limit,)
        }

    def words(self, longest: int | None) -> int | None:
        """The length of texts tokenized without special tokens, counted with them as irexp does; at most `longest`."""
        tokenizer = self.load_tokenizer()
        if tokenizer.model_max_length > 10**9:
            return longest
        words = int(tokenizer.model_max_length + tokenizer.num_special_tokens_to_add())
        return min(words, longest or words)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which lower-cases texts if the settings say so."""
        place = HuggingFaceBackbone(str(self.folder), trust_remote_code=self.trust_remote_code)
        tokenizer = place.load_tokenizer()
        if limit := self.settings.get("max_seq_length"):  # takes precedence over the tokenizer's own limit
            tokenizer.model_max_length = max(tokenizer.model_max_length, limit)
        if self.settings.get("do_lower_case"):
            backend = tokenizer.backend_tokenizer
            present = [backend.normalizer] if backend.normalizer is not None else []
            backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *present])
        return tokenizer

    def _load(self, loader: Any, **options: Any) -> tuple[PreTrainedModel, list[str]]:
        model, missing = super()._load(loader, **options)
        if is_adapter(self.folder):
            supplied = put_adapter(model, self.folder)
            merge_adapter(model)
            missing = [key for key in missing if key not in supplied]  # modules that were trained as a whole
        return model, missing
