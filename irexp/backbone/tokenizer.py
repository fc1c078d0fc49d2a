"""Whether a tokenizer belongs to a transformer: its vocabulary, its padding side and the length of its sequences."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from irexp.types import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: Model types whose positions start after the padding token's id, 1, as in RoBERTa: two positions hold no text.
_RESERVE_POSITIONS = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet", "ibert"),
    *("data2vec-text", "longformer", "luke", "esm"),
)


def check_end(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare a classifier's logits of some texts with and without padding on their right, where irexp pads.

    Encoder-decoders read their end token. FlashAttention, and kernels of the hub, compute only on a GPU.

    Raises:
        UserError: if they differ: it reads the last position, takes another token for padding, or mixes neighbours.
    """
    attention = str(getattr(encoder.config, "_attn_implementation", None))
    if encoder.config.is_encoder_decoder or attention.startswith("flash") or "/" in attention:
        return
    import torch

    padding = int(tokenizer.pad_token_id or 0)
    ids_BL = torch.tensor((_words(tokenizer, 32) * 32)[:32]).reshape(4, 8)  # the logit of one text may be 0 by chance
    mask_BL = torch.ones_like(ids_BL)
    longer_BL = torch.nn.functional.pad(ids_BL, (0, 1), value=padding)
    longer_mask_BL = torch.nn.functional.pad(mask_BL, (0, 1))
    with torch.inference_mode():
        alone = encoder(input_ids=ids_BL, attention_mask=mask_BL).logits.float()
        padded = encoder(input_ids=longer_BL, attention_mask=longer_mask_BL).logits.float()
    tolerance = 0.01 if encoder.dtype == torch.float32 else 0.1
    if not torch.allclose(alone, padded, rtol=0, atol=tolerance * float(alone.abs().max())):
        known = encoder.config.pad_token_id
        reason = "it classifies by the last position, or its layers mix neighbouring positions; use another backbone"
        if known != padding:
            reason = f"pad_token_id={known} in config.json is not the tokenizer's, {padding}; correct it"
        raise UserError(
            f"{tokenizer.name_or_path}: a {type(encoder).__name__} would read the padding of its batch: {reason}"
        )


def check_padding_side(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare a token's vector with and without padding on its left, if the tokenizer pads there.

    irexp pads on the right. A decoder gives the same vectors either way; BERT counts positions from the left end.

    Raises:
        UserError: if the vectors differ, so that a text's vector depends on the batch in other libraries.
    """
    if tokenizer.padding_side != "left" or encoder.config.is_encoder_decoder:
        return
    import torch

    padding = int(tokenizer.pad_token_id or 0)
    (token,) = _words(tokenizer, 1)
    with torch.inference_mode():
        alone = encoder(input_ids=torch.tensor([[token]]), attention_mask=torch.tensor([[1]]))[0]
        padded = encoder(input_ids=torch.tensor([[padding, token]]), attention_mask=torch.tensor([[0, 1]]))[0]
    if alone.ndim == 3:  # vectors of tokens, rather than a classifier's logits
        alone, padded = alone[:, -1], padded[:, -1]
    if not torch.allclose(alone, padded, rtol=0, atol=0.01 * float(alone.abs().max())):
        raise UserError(
            f"{tokenizer.name_or_path}: padding_side=left in its tokenizer_config.json is not supported with a "
            f"{type(encoder).__name__}, whose vectors would depend on the batch in other libraries; set it to right"
        )


def _words(tokenizer: PreTrainedTokenizerBase, count: int) -> list[int]:
    """The first ids of tokens that are not special."""
    special = set(tokenizer.all_special_ids)
    return list(islice((i for i in range(len(tokenizer)) if i not in special), count))


def check_vocabulary(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare the size of a tokenizer's vocabulary with the number of a transformer's word embeddings.

    Raises:
        UserError: if the vocabulary is larger, or less than half as large (embedding matrices are padded by less).
    """
    from torch import nn  # checking a configuration imports this module and needs no torch

    words = encoder.get_input_embeddings()
    if not isinstance(words, nn.Embedding):
        return
    rows, longest = words.num_embeddings, max(tokenizer.get_vocab().values(), default=-1) + 1
    if rows // 2 <= longest <= rows:
        return
    raise UserError(
        f"{tokenizer.name_or_path}: its tokenizer has {longest} words and the transformer embeddings for {rows}: "
        f"it belongs to another model. {tokenizer_hint(Path(tokenizer.name_or_path))}"
    )


def tokenizer_hint(folder: Path) -> str:
    """How to get a folder's tokenizer: from its parent, where a trainer saves it, or from the model it was made of."""
    places = [place for place in (folder.parent, folder.parent / "tokenizer") if (place / "tokenizer.json").is_file()]
    path = folder / "config.json"
    said = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    source = (*places, said.get("_name_or_path") or "the model that it was trained from")[0]
    return f"Save it there: AutoTokenizer.from_pretrained('{source}').save_pretrained('{folder}')"


def max_positions(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest sequence that an encoder can read; None if unbounded."""
    limits = []
    positions = getattr(config, "max_position_embeddings", None) or 0
    if positions > 0 and config.model_type != "t5":  # XLNet's -1 means unbounded
        limits.append(positions - 2 * (config.model_type in _RESERVE_POSITIONS))
    if tokenizer.model_max_length < 10**9:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)
