"""Tiny random transformers of many architectures, each with the tokenizer class of its architecture."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import processors

from tests import tiny

#: The texts that the tokenizers are trained on: the tests' texts, words of templates, and all characters.
_TEXTS = [
    *(*tiny.QUERIES, *tiny.DOCUMENTS, "Query: Document: Relevant: yes no", "abcdefghijklmnopqrstuvwxyz .,:;!?()"),
]

#: Positions of the transformers: fewer than the longest texts have tokens, so that truncation counts, too.
POSITIONS = 64


@dataclass(frozen=True)
class Architecture:
    """A kind of transformer, with its tokenizer.

    Attributes:
        model_type: its name in transformers.
        tokenizer: the class of its tokenizer in transformers.
        settings: settings of its configuration that differ from `_SIZES`.
        begins: whether its tokenizer puts the beginning token before a text, which a trained tokenizer does not learn.
    """

    model_type: str
    tokenizer: str
    settings: dict[str, Any] = field(default_factory=dict)
    begins: bool = False

    @property
    def is_decoder(self) -> bool:
        """Whether it generates text."""
        return self.tokenizer in ("Qwen2Tokenizer", "LlamaTokenizer", "GemmaTokenizer")


_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.4,
    "max_position_embeddings": POSITIONS,
}

_DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
_BART: dict[str, Any] = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "init_std": 0.4}
_BART |= {
    f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("attention_heads", 2), ("ffn_dim", 24))
}
_OFFSET = {"max_position_embeddings": POSITIONS + 2}
_DECODER = {"num_key_value_heads": 1, "head_dim": 8}

ARCHITECTURES: dict[str, Architecture] = {
    "BERT": Architecture("bert", "BertTokenizer"),
    "DistilBERT": Architecture("distilbert", "BertTokenizer", _DISTIL),
    "ELECTRA": Architecture("electra", "BertTokenizer", {"embedding_size": 16}),
    "MPNet": Architecture("mpnet", "MPNetTokenizer", _OFFSET),
    "RoBERTa": Architecture("roberta", "RobertaTokenizer", _OFFSET),
    "XLM-R": Architecture("xlm-roberta", "XLMRobertaTokenizer", _OFFSET),
    "ALBERT": Architecture("albert", "AlbertTokenizer", {"embedding_size": 16}),
    "DeBERTa-v2": Architecture("deberta-v2", "DebertaV2Tokenizer"),
    "ModernBERT": Architecture("modernbert", "BertTokenizer", {"global_attn_every_n_layers": 1}),
    "T5": Architecture("t5", "T5Tokenizer", _T5),
    "BART": Architecture("bart", "BartTokenizer", _BART),
    "Qwen3": Architecture("qwen3", "Qwen2Tokenizer", _DECODER),
    "Llama": Architecture("llama", "LlamaTokenizer", _DECODER, begins=True),
    "Gemma": Architecture("gemma", "GemmaTokenizer", _DECODER, begins=True),
}


def make_tokenizer(architecture: Architecture) -> Any:
    """A tokenizer of the architecture's class, trained on the tests' texts."""
    blank = getattr(transformers, architecture.tokenizer)()
    tokenizer = blank.train_new_from_iterator(_TEXTS * 3, vocab_size=300, show_progress=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if architecture.begins:
        begin = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            f"{begin} $A", f"{begin} $A $B", special_tokens=[(begin, tokenizer.bos_token_id)]
        )
    tokenizer.model_max_length = POSITIONS
    return tokenizer


def make_backbone(architecture: Architecture, folder: Path, loader: str, **sides: str) -> Path:
    """Save a random transformer of an architecture, and its tokenizer.

    Args:
        architecture: the kind of transformer.
        folder: where it is saved.
        loader: the class of transformers that makes it, such as AutoModelForMaskedLM.
        sides: `padding_side` and `truncation_side` of the tokenizer, if they are not its class's.
    """
    tokenizer = make_tokenizer(architecture)
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "bos", "eos", "cls", "sep")}
    config: Any = transformers.AutoConfig.for_model(
        architecture.model_type, **_SIZES | architecture.settings | ids, vocab_size=len(tokenizer), num_labels=1
    )
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    model = getattr(transformers, loader).from_config(config)
    if architecture.model_type == "t5":  # whose own initial weights are too small for scores to differ
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | sides), encoding="utf8")
    return folder
