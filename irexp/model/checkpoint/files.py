"""Files of checkpoints: JSON, and tensors, which are read without running code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from irexp.model.model import Model

#: The file with settings that other libraries' formats have no place for.
SETTINGS = "irexp.json"


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def read_json(path: Path) -> Any:
    """Read a required JSON file.

    Raises:
        UserError: if it does not exist, or is not JSON.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing, though other files of the checkpoint require it; the checkpoint is damaged"
        )
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error).partition(';')[0]}); the checkpoint is damaged") from None


def read_required(path: Path, **kinds: type) -> dict[str, Any]:
    """The content of a required JSON file of settings.

    Args:
        path: the file.
        kinds: settings that it must have, with their types.

    Raises:
        UserError: if it does not exist, is damaged, or lacks a setting.
    """
    content = read_json(path)
    if isinstance(content, dict) and (lacking := [key for key in kinds if content.get(key) is None]):
        raise UserError(f"{path} has no {lacking[0]}; the checkpoint is damaged")
    return read_optional(path, **kinds)


def read_optional(path: Path, **kinds: type) -> dict[str, Any]:
    """The content of a JSON file of settings; empty if there is no file.

    Args:
        path: the file.
        kinds: the types of settings that may be left out, or be null.

    Raises:
        UserError: if it is damaged, or a setting is of another type.
    """
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise UserError(f"{path} has no settings but {type(content).__name__}; the checkpoint is damaged")
    for key, kind in kinds.items():
        if (value := content.get(key)) is not None and not isinstance(value, kind):
            raise UserError(f"{path}: {key}={value!r} is not of the type {kind.__name__}; the checkpoint is damaged")
    return content


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's weights file.

    Raises:
        UserError: if there is no such file.
    """
    if (folder / "model.safetensors").is_file():
        return read_safetensors(folder / "model.safetensors")
    path = folder / "pytorch_model.bin"
    if not path.is_file():
        raise UserError(f"{folder}: there is neither model.safetensors nor pytorch_model.bin")
    return read_torch(path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in the safetensors format.

    Raises:
        UserError: if it is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error}); the checkpoint is damaged") from None


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file.

    Raises:
        UserError: if it is damaged or holds anything but tensors; none of its code is run.
    """
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{path} is damaged, or holds more than tensors, which is refused, since it could run code "
            f"({type(error).__name__})"
        ) from None
    return state


def tensor_names(folder: Path) -> set[str]:
    """The names of a folder's weights, in all its shards."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with _opened(path) as file:
            names.update(file.keys())
    if not names and (folder / "pytorch_model.bin").is_file():
        names.update(read_torch(folder / "pytorch_model.bin"))
    return names


def _opened(path: Path) -> Any:
    """A file in the safetensors format, opened without reading its tensors."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error}); the checkpoint is damaged") from None


def find_tensors(folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The weights whose names are wanted, from all shards."""
    found: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with _opened(path) as file:
            found |= {name: file.get_tensor(name) for name in file.keys() if is_wanted(name)}  # noqa: SIM118
    if not found and (folder / "pytorch_model.bin").is_file():
        found = {name: value for name, value in read_torch(folder / "pytorch_model.bin").items() if is_wanted(name)}
    return found


def fill(module: nn.Module, state: dict[str, Tensor], place: Path, *, names: Collection[str] | None = None) -> None:
    """Load the weights of a module.

    Args:
        module: the module whose weights are set.
        state: the weights.
        place: the file or folder that they come from, for the message.
        names: the module's weights that must be in `state`; None for all.

    Raises:
        UserError: naming the weights that are missing, unexpected or of another shape.
    """
    wanted = {name: value for name, value in module.state_dict().items() if names is None or name in names}
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise UserError(f"{place}: missing weights {missing}, unexpected weights {unexpected}")
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            raise UserError(f"{place}: {name} has the shape {tuple(value.shape)}, not {tuple(wanted[name].shape)}")
    module.load_state_dict(state, strict=names is None)


@dataclass(frozen=True)
class Content:
    """The content of a checkpoint's folder, by which its format is recognised; each file is read once."""

    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The content of irexp.json."""
        return read_optional(self.folder / SETTINGS)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return read_optional(self.folder / "config.json")

    @cached_property
    def weights(self) -> set[str]:
        """The names of the weights."""
        return tensor_names(self.folder)

    @property
    def architecture(self) -> str:
        """The class of transformers that config.json names; empty if it names none."""
        named = self.config.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else ""

    @property
    def is_listed(self) -> bool:
        """Whether there is a list of modules."""
        return self.has("modules.json")

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.folder / name).is_file()


@dataclass(frozen=True)
class Wanted:
    """A caller's choices, which override the checkpoint's; None keeps the checkpoint's.

    Attributes:
        name: the model's name in tables.
        query_length: tokens kept per query.
        document_length: tokens kept per document.
        like: the settings of the configured model, for what a checkpoint leaves open.
        trust_remote_code: whether Python code shipped with the checkpoint may be run; no file of it can allow this.
    """

    name: str | None = None
    query_length: int | None = None
    document_length: int | None = None
    like: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def name_and_lengths(self, folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The name and the lengths: the caller's, else those in `settings`; the name falls back to the folder's."""
        return {
            "name": self.name or settings.get("name") or folder.name,
            "query_length": self.query_length or settings.get("query_length"),
            "document_length": self.document_length or settings.get("document_length"),
        }


def write_settings(folder: Path, model: Model, **settings: Any) -> None:
    """Write irexp.json: family, name, lengths, and the settings that the other files have no place for."""
    lengths = {"query_length": model.query_length, "document_length": model.document_length}
    write_json(folder / SETTINGS, {"family": model.family(), "name": model.name, **lengths, **settings})


def write_modules(folder: Path, modules: Sequence[tuple[str, str]], **config: Any) -> None:
    """Write the list of modules and the configuration that sentence-transformers reads.

    Args:
        folder: the checkpoint.
        modules: type and folder of each module.
        config: the content of config_sentence_transformers.json.
    """
    entries = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(modules)]
    write_json(folder / "modules.json", entries)
    write_json(folder / "config_sentence_transformers.json", {"default_prompt_name": None, **config})


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer so that the older versions of transformers that other libraries need can load it, too.

    The length to which it last cut texts is not saved: a resumed training may have read queries or documents last. One
    without a token for padding gets that of the end of a text, since other libraries cannot pad without one.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = read_json(path)
    if tokenizer.pad_token is None:
        config["pad_token"] = tokenizer.eos_token or tokenizer.unk_token
    is_new = config.get("tokenizer_class") == "TokenizersBackend"  # the name of version 5
    write_json(path, config)
    if tokenizer.is_fast and (is_new or _components(type(tokenizer).from_pretrained(folder)) != _components(tokenizer)):
        generic = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
        write_json(path, config | generic)


def _components(tokenizer: PreTrainedTokenizerBase) -> list[bytes | None]:
    """How a text becomes tokens; a tokenizer's class may set some of it when it is read, whatever the file says."""
    backend = tokenizer.backend_tokenizer
    parts = (backend.normalizer, backend.pre_tokenizer, backend.post_processor)
    return [None if part is None else part.__getstate__() for part in parts]


def save_with_head(encoder: PreTrainedModel, head: Mapping[str, Tensor], folder: Path) -> None:
    """Write an encoder's weights, under its prefix, and a head's weights into one file."""
    prefix = encoder.base_model_prefix
    state = {f"{prefix}.{name}": value for name, value in encoder.state_dict().items()} | dict(head)
    encoder.config.save_pretrained(folder)
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / "model.safetensors")
