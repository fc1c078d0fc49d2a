"""A tiny random model of every family and setting, for the tests of checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.model.coil import COIL
from irexp.model.colbert import ColBERT
from irexp.model.dense import DenseBiEncoder
from irexp.model.linear_mono import LinearMono
from irexp.model.model import Model
from irexp.model.mono import Mono
from irexp.model.mvr import MVR
from irexp.model.set_encoder import SetEncoder
from irexp.model.splade import SPLADE
from irexp.model.token_logit import TokenLogit
from irexp.model.unicoil import UniCOIL
from irexp.model.xtr import XTR
from tests import tiny

TEMPLATE = "Query: {query} Document: {document} Relevant:"


def scores_of(model: Model) -> list[list[float]]:
    """What the model makes of the queries and documents of `tests.tiny`."""
    scores: list[list[float]] = model.score(tiny.QUERIES, tiny.DOCUMENTS).tolist()
    return scores


MAKE: dict[str, Callable[[dict[str, HuggingFaceBackbone]], Model]] = {
    "splade": lambda b: SPLADE(b["encoder"], activation="log1p_log1p", pooling="sum"),
    "splade_lexical": lambda b: SPLADE(b["encoder"], query_encoding="lexical", document_encoding="lexical"),
    "splade_static": lambda b: SPLADE(b["encoder"], query_encoding="static"),
    "splade_binary": lambda b: SPLADE(b["encoder"], query_encoding="binary"),
    "unicoil": lambda b: UniCOIL(b["encoder"]),
    "coil": lambda b: COIL(b["encoder"], token_dim=4, cls_dim=6),
    "coil_without_cls": lambda b: COIL(b["encoder"], token_dim=4, cls_dim=0),
    "colbert": lambda b: ColBERT(b["encoder"], dim=4, query_length=12, attend_to_expansion=True),
    "colbert_plain": lambda b: ColBERT(
        b["encoder"], dim=4, query_expansion=False, mask_punctuation=False, query_marker="[Q] ", document_marker="[D] "
    ),
    "xtr": lambda b: XTR(b["t5"], dim=4, k_train=7, query_length=9),
    "mvr": lambda b: MVR(b["encoder"], viewers=3),
    "mono": lambda b: Mono(b["encoder"], activation="Sigmoid"),
    "mono_two": lambda b: Mono(b["encoder"], labels=2),
    "linear_mono": lambda b: LinearMono(b["encoder"], labels=2, bias=True),
    "mono_t5": lambda b: TokenLogit(b["t5"]),
    "rank_t5": lambda b: TokenLogit(b["t5"], true_token="<extra_id_10>", false_token=None),
    "decoder": lambda b: TokenLogit(
        b["decoder"], template=TEMPLATE, true_token="yes", false_token="no", score="log_odds", special_tokens=False
    ),
    "set_encoder": lambda b: SetEncoder(b["encoder"], extra_token=True),
    "dense_decoder": lambda b: DenseBiEncoder(b["decoder"], pooling="last", append_eos=True, truncate_dim=8),
}
