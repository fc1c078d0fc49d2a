"""The files shared by sentence-transformers and PyLate: a list of modules, prompts, and how texts are tokenized.

modules.json                         the modules and their folders; a Router lists those for queries and for documents
config_sentence_transformers.json    prompts, similarity, and settings of the kind of model
sentence_bert_config.json            in a transformer's folder: maximum length (per side in version 6), lower-casing
adapter_config.json                  in a transformer's folder, instead of config.json: a peft adapter over a base model
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import normalizers

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.backbone.tokenizer import max_positions
from irexp.model.checkpoint.files import read_json, read_optional, write_json
from irexp.model.lora import base_of, is_adapter, merge_adapter, put_adapter
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The list of modules of a folder whose queries and documents pass through different modules.
ROUTER = [("sentence_transformers.base.modules.router.Router", "")]

#: Settings of a transformer that would change how a text is tokenized, and are not supported.
_NOT_UNDERSTOOD = ("processing_kwargs", "processor_kwargs", "tokenizer_args")


@dataclass(frozen=True)
class Module:
    """One module of a list: the last part of its type, which is the same in all versions, and its folder."""

    kind: str
    folder: Path


def read_routes(folder: Path) -> tuple[list[Module], list[Module]]:
    """The modules that queries and documents pass through; a folder without a list is a single transformer.

    Raises:
        UserError: if the list is damaged, or its routes are not those of queries and documents.
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
        module = Module(entry["type"].rpartition(".")[2], folder / entry.get("path", ""))
        if module.kind == "Router":
            routes = _read_router(module.folder)
            query += routes[0]
            document += routes[1]
        else:
            query.append(module)
            document.append(module)
    return query, document


def _read_router(folder: Path) -> tuple[list[Module], list[Module]]:
    said = read_json(folder / "router_config.json")
    structure, types = said["structure"], said["types"]
    if sorted(structure) != ["document", "query"] or (said.get("parameters") or {}).get("route_mappings"):
        raise UserError(f"{folder}: a Router of {', '.join(structure)} is not supported; supported: query, document")
    query, document = (
        [Module(types[name].rpartition(".")[2], folder / name) for name in structure[side]]
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
    return read_optional(folder / "config_sentence_transformers.json")


def read_prompts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts that `encode_query` and `encode_document` put in front of texts.

    An empty prompt counts as given; `default_prompt_name` applies neither to queries nor to documents.
    """
    prompts = config.get("prompts") or {}
    document = next((key for key in ("document", "passage", "corpus") if prompts.get(key) is not None), "document")
    return {"query_prompt": prompts.get("query") or "", "document_prompt": prompts.get(document) or ""}


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
        self.settings: dict[str, Any] = read_optional(files[0]) if files else {}
        if strange := [key for key in _NOT_UNDERSTOOD if self.settings.get(key)]:
            raise UserError(f"{files[0]}: {strange[0]}={self.settings[strange[0]]} is not supported")

    def longest(self) -> int | None:
        """The transformer's maximum number of tokens; None if there is no limit."""
        return max_positions(self.load_config(), self.load_tokenizer())

    def lengths(self) -> dict[str, int | None]:
        """The lengths of queries and documents, within the transformer's maximum; None if no file sets them."""
        longest = self.longest()
        limit = self.settings.get("max_seq_length") or longest
        return {
            key: min(length, longest or length) if length else None
            for key in ("query_length", "document_length")
            for length in (self.settings.get(key) or limit,)
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
