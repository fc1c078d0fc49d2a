"""The folders of sentence-transformers and PyLate: a list of modules, prompts, and how texts are read.

modules.json                         the modules and their folders; a Router has a list for queries, one for documents
config_sentence_transformers.json    prompts, similarity, and what each kind of model adds
sentence_bert_config.json            beside a transformer: the tokens it reads, of each side in version 6; lower case
adapter_config.json                  beside a transformer, in place of its config.json: a peft adapter over another one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import normalizers

from irexp.backbone.backbone import max_positions
from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.checkpoint.files import read_json, read_optional, write_json
from irexp.model.lora import base_of, is_adapter, merge_adapter, put_adapter
from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The list of modules of a folder whose queries and documents pass through different ones.
ROUTER = [("sentence_transformers.base.modules.router.Router", "")]

#: Settings of a transformer that would change how a text is read.
_NOT_UNDERSTOOD = ("processing_kwargs", "processor_kwargs", "tokenizer_args")


@dataclass(frozen=True)
class Module:
    """One of a list: the last part of its type, which all versions agree in, and its folder."""

    kind: str
    folder: Path


def read_routes(folder: Path) -> tuple[list[Module], list[Module]]:
    """The modules that queries and documents pass through; a folder without a list is a transformer.

    Raises:
        UserError: if the list is damaged, or routes by something else than queries and documents.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return [Module("Transformer", folder)], [Module("Transformer", folder)]
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) and "type" in e for e in entries):
        raise UserError(f"{path} is no list of modules, each with its type; the checkpoint is damaged")
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
        raise UserError(f"{folder}: a Router of {', '.join(structure)} is not understood; query and document are")
    query, document = (
        [Module(types[name].rpartition(".")[2], folder / name) for name in structure[side]]
        for side in ("query", "document")
    )
    return query, document


def write_router(folder: Path, query: Sequence[tuple[str, str]], document: Sequence[tuple[str, str]]) -> None:
    """Write what tells queries from documents; `ROUTER` is the list of modules then.

    Args:
        folder: the checkpoint.
        query: the type and the folder of the modules that queries pass through.
        document: those of documents; one in both is shared.
    """
    router = {
        "types": {place: kind for kind, place in (*query, *document)},
        "structure": {"query": [place for _, place in query], "document": [place for _, place in document]},
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }
    write_json(folder / "router_config.json", router)


def read_config(folder: Path) -> dict[str, Any]:
    """What config_sentence_transformers.json says."""
    return read_optional(folder / "config_sentence_transformers.json")


def read_prompts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is put in front of queries and documents by `encode_query` and `encode_document`.

    An empty prompt is one; `default_prompt_name` is for texts that are neither.
    """
    prompts = config.get("prompts") or {}
    document = next((key for key in ("document", "passage", "corpus") if prompts.get(key) is not None), "document")
    return {"query_prompt": prompts.get("query") or "", "document_prompt": prompts.get(document) or ""}


class ModuleBackbone(HuggingFaceBackbone):
    """The transformer of a checkpoint: an adapter over it is merged, and its tokenizer set as its settings say."""

    def __init__(self, folder: Path, *, trust_remote_code: bool = False) -> None:
        """Read the settings.

        Raises:
            UserError: if one is not understood.
        """
        name = base_of(folder) if is_adapter(folder) else str(folder)
        super().__init__(name, trust_remote_code=trust_remote_code)
        self.folder = folder
        files = sorted(folder.glob("sentence_*_config.json"))
        self.settings: dict[str, Any] = read_optional(files[0]) if files else {}
        if strange := [key for key in _NOT_UNDERSTOOD if self.settings.get(key)]:
            raise UserError(f"{files[0]}: {strange[0]}={self.settings[strange[0]]} is not understood")

    def longest(self) -> int | None:
        """The tokens that the transformer can read; None if nothing bounds it."""
        return max_positions(self.load_config(), self.load_tokenizer())

    def lengths(self) -> dict[str, int | None]:
        """The tokens of queries and documents that are read, within what the transformer can; None if nothing says."""
        longest = self.longest()
        limit = self.settings.get("max_seq_length") or longest
        return {
            key: min(length, longest or length) if length else None
            for key in ("query_length", "document_length")
            for length in (self.settings.get(key) or limit,)
        }

    def words(self, longest: int | None) -> int | None:
        """The tokens that are read where the tokenizer adds no special ones, with these, within what can be read."""
        tokenizer = self.load_tokenizer()
        if tokenizer.model_max_length > 10**9:
            return longest
        words = int(tokenizer.model_max_length + tokenizer.num_special_tokens_to_add())
        return min(words, longest or words)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which puts a text into lower case if the settings say so."""
        place = HuggingFaceBackbone(str(self.folder), trust_remote_code=self.trust_remote_code)
        tokenizer = place.load_tokenizer()
        if limit := self.settings.get("max_seq_length"):  # instead of what the tokenizer says
            tokenizer.model_max_length = max(tokenizer.model_max_length, limit)
        if self.settings.get("do_lower_case"):
            backend = tokenizer.backend_tokenizer
            present = [backend.normalizer] if backend.normalizer is not None else []
            backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *present])
        return tokenizer

    def _load(self, loader: Any, **options: Any) -> tuple[PreTrainedModel, list[str]]:
        model, missing = super()._load(loader, **options)
        if is_adapter(self.folder):
            put_adapter(model, self.folder)
            merge_adapter(model)
        return model, missing
