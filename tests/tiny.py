"""Tiny random transformers for the tests: made in a second, saved where a test says, of every kind that is needed."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

_ENTRIES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "the", "a", "of", "how", "do", "i"),
    *("list", "create", "delete", "bucket", "buckets", "instance", "instances", "queue", "stop", "all", "an", "and"),
    *("▁true", "▁false", "true", "false", "<extra_id_10>", "</s>", "yes", "no", "Query", "Document", "Relevant"),
    *string.ascii_lowercase,
    *(f"##{letter}" for letter in string.ascii_lowercase),
    *string.punctuation,
    "0",  # what sentence-transformers fills a chat template with, to find its end
]

WORDS = list(dict.fromkeys(_ENTRIES))

QUERIES = ["how do i list all buckets", "stop an instance"]
DOCUMENTS = [
    "list buckets, all of the buckets.",
    "stop instances and delete a queue; all of it",
    "a",
    "create (an) instance",
]

_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
}


def bert(folder: Path, head: str = "BertModel", **settings: Any) -> Path:
    """A BERT with a WordPiece vocabulary."""
    return make(
        folder, getattr(transformers, head), transformers.BertConfig(**_SMALL | settings, vocab_size=len(WORDS))
    )


def long_bert(folder: Path, head: str = "BertModel", **settings: Any) -> Path:
    """The same with 512 positions."""
    bert(folder, head, max_position_embeddings=512, **settings)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {"model_max_length": 512}))
    return folder


def make(folder: Path, kind: Any, config: Any) -> Path:
    """Any model with the tokenizer of `bert`."""
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    types = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    save_tokenizer(tokenizer, folder, model_max_length=64, **names, **types)
    return folder


def t5(folder: Path, head: str = "T5ForConditionalGeneration") -> Path:
    """A T5 whose tokenizer splits at blanks and puts </s> behind a text."""
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    config.decoder_start_token_id = 0
    model = getattr(transformers, head)(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    end = WORDS.index("</s>")
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", end)])
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>")
    return folder


def decoder(folder: Path, head: str = "ArceeForCausalLM") -> Path:
    """A decoder whose tokenizer splits at blanks and adds nothing."""
    torch.manual_seed(0)
    config = transformers.ArceeConfig(**_SMALL | {"num_key_value_heads": 2}, vocab_size=len(WORDS))
    getattr(transformers, head)(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>", model_max_length=64)
    return folder


def save_tokenizer(tokenizer: Tokenizer, folder: Path, **settings: Any) -> None:
    """The two files that transformers reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    content = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf8")
