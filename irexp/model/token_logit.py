"""Re-rankers that score a pair by a language model's logits for the next token.

    monoT5 (Nogueira et al. 2020, arXiv:2003.06713):  s(q, d) = log softmax(z_false, z_true)_true
    RankT5 (Zhuang et al. 2023, arXiv:2210.10634):    s(q, d) = z_<extra_id_10>
    decoders, such as Qwen3-Reranker (arXiv:2506.05176): as monoT5, with the logits of "yes" and "no"

z are the logits of the first token generated for a filled template: an encoder-decoder encodes the template and decodes
from its start token, a decoder continues the template.

Shapes: P pairs, L tokens, H hidden dimensions, V vocabulary entries.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from irexp.backbone.backbone import Backbone
from irexp.model.checkpoint import logit_score
from irexp.model.checkpoint.layout import Layout, Reader
from irexp.model.cross_encoder import CrossEncoder, PairIds, ScoreActivation, cut_once
from irexp.model.one_encoder import OneEncoder
from irexp.model.text import as_texts, cut, explain_tokenizer_errors
from irexp.types import Tokens, UserError


class TokenLogit(OneEncoder, CrossEncoder):
    """A pointwise re-ranker on a decoder or an encoder-decoder."""

    without_int8: ClassVar[str | None] = "its language model computes the logits of one token alone"
    layout: ClassVar[Layout] = logit_score
    reads: ClassVar[tuple[Reader, ...]] = (logit_score,)
    begins_bare = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str = "mono_t5",
        template: str = "Query: {query} Document: {document} Relevant:",
        true_token: str = "▁true",
        false_token: str | None = "▁false",
        score: Literal["log_probability", "log_odds"] = "log_probability",
        special_tokens: bool = True,
        activation: ScoreActivation = "Identity",
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> None:
        """Load the language model.

        Args:
            backbone: a decoder or an encoder-decoder.
            name: the model's name in tables and folders.
            template: the prompt, with the placeholders `{query}` and `{document}`.
            true_token: the token that stands for relevant, as the vocabulary spells it.
            false_token: the token that stands for not relevant; None to score by the logit of `true_token` alone.
            score: log softmax(z)_true as in monoT5, or z_true - z_false, which gives the same ranking.
            special_tokens: whether the tokenizer adds its special tokens to the template, such as T5's </s>.
            activation: applied to reported scores, not in training.
            query_length: tokens kept per query; None for 32.
            document_length: tokens kept per document; None for 256. Documents are truncated further if the template and
                the query leave less room.

        Raises:
            UserError: if the template lacks a placeholder or leaves no room, or the vocabulary lacks a token.
        """
        if template.count("{query}") != 1 or template.count("{document}") != 1:
            raise UserError(f"model.template={template!r}: it must contain {{query}} and {{document}} once each")
        super().__init__(
            backbone,
            backbone.load_language_model(),
            name=name,
            query_length=query_length,
            document_length=document_length,
        )
        self.template, self.score_of, self.special_tokens = template, score, special_tokens
        self.activation = activation
        self.true_token, self.false_token = true_token, false_token
        self.token_ids = [self._id_of(token) for token in (false_token, true_token) if token is not None]
        self.template_length = len(self._fill("", ""))
        if self.longest is not None and self.template_length >= self.longest:
            raise UserError(
                f"model.template={template!r} leaves no room for texts: it has {self.template_length} tokens, and the "
                f"backbone reads at most {self.longest}; shorten it"
            )

    def known_settings(self) -> dict[str, Any]:
        """With the name of the score."""
        return super().known_settings() | {"score": self.score_of}

    def tokenize_pairs(self, queries: Sequence[str], documents: Sequence[str]) -> list[PairIds]:
        """Token ids of the template, filled with truncated texts; the template itself is never truncated."""
        queries, documents = as_texts(queries, "queries"), as_texts(documents, "documents")
        if not documents:
            return []
        pairs = list(
            zip(
                cut_once(self.tokenizer, queries, self.query_length),
                cut_once(self.tokenizer, documents, self.document_length),
                strict=True,
            )
        )
        texts = [self._filled(query, document) for query, document in pairs]
        options = {"add_special_tokens": self.special_tokens, "return_attention_mask": False, "verbose": False}
        with explain_tokenizer_errors(self.tokenizer, texts):
            encoded = self.tokenizer(texts, **options)
        return [PairIds(self._within(ids, *pair)) for ids, pair in zip(encoded["input_ids"], pairs, strict=True)]

    def _within(self, ids: list[int], query: str, document: str) -> list[int]:
        """The filled template within the maximum length: the document is truncated first, then the query."""
        if self.longest is None or len(ids) <= self.longest:
            return ids
        document = self._without_last(document, len(ids) - self.longest)
        ids = self._fill(query, document)
        if len(ids) > self.longest:
            ids = self._fill(self._without_last(query, len(ids) - self.longest), document)
        return ids

    def _without_last(self, text: str, tokens: int) -> str:
        """A text without its last tokens."""
        length = len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) - tokens
        return cut(self.tokenizer, [text], length)[0] if length > 0 else ""

    def score_pairs(self, tokens: Tokens, sizes: Sequence[int]) -> Tensor:
        """score_P, from the logits of one or two tokens."""
        mask_PL = tokens.attention_mask_BL
        if self.encoder.config.is_encoder_decoder:
            start_P1 = torch.full_like(mask_PL[:, :1], int(self.encoder.config.decoder_start_token_id or 0))
            output = self.encoder(
                input_ids=tokens.input_ids_BL, attention_mask=mask_PL, decoder_input_ids=start_P1, use_cache=False
            )
            logit_PV: Tensor = output.logits[:, 0]
        else:
            with _logits_at(mask_PL.sum(dim=1) - 1, self.encoder.get_output_embeddings()):  # type: ignore[no-untyped-call]
                output = self.encoder(input_ids=tokens.input_ids_BL, attention_mask=mask_PL, use_cache=False)
            logit_PV = output.logits[:, 0]
        chosen_PC = logit_PV[:, self.token_ids].float()
        if self.false_token is None:
            return chosen_PC[:, 0]
        if self.score_of == "log_odds":
            return chosen_PC[:, 1] - chosen_PC[:, 0]
        return torch.log_softmax(chosen_PC, dim=1)[:, 1]

    def _filled(self, query: str, document: str) -> str:
        texts = {"{query}": query, "{document}": document}
        return re.sub(r"\{(query|document)\}", lambda place: texts[place.group()], self.template)

    def _fill(self, query: str, document: str) -> list[int]:
        text = self._filled(query, document)
        with explain_tokenizer_errors(self.tokenizer, [text]):
            return list(self.tokenizer(text, add_special_tokens=self.special_tokens, verbose=False)["input_ids"])

    def _id_of(self, token: str) -> int:
        vocabulary = self.tokenizer.get_vocab()
        if token not in vocabulary:
            near = [word for word in vocabulary if word.strip("▁Ġ ").lower() == token.strip("▁Ġ ").lower()]
            raise UserError(
                f"model: the vocabulary has no token {token!r}; use the vocabulary's spelling"
                + (f", such as {', '.join(map(repr, sorted(near)[:4]))}" if near else "")
            )
        return int(vocabulary[token])


@contextmanager
def _logits_at(place_P: Tensor, head: nn.Module) -> Iterator[None]:
    """Compute a language model's logits at one position per text: all logits of 8192 tokens are 5 GB with Qwen3.

    Those of this thread alone: others may score their batches with the same model.
    """
    own = threading.get_ident()

    def pick(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if threading.get_ident() != own:
            return inputs
        hidden_PLH, *rest = inputs
        return (hidden_PLH[torch.arange(len(place_P), device=place_P.device), place_P][:, None], *rest)

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
