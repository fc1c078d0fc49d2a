"""What MS MARCO, its second version and ClueWeb22-B would cost, computed from measured rates: a page on paper.

    python experiments/speed/scale.py > experiments/speed/scale.md

Nothing here was run at these sizes. Rates are those that README.md in this folder, gpu/ and tests/gpu/h200.md measured
on smaller collections; each is said to grow as its engine's arithmetic does.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Collection:
    """A collection at its full size; `tokens` are those of a document that an encoder reads."""

    name: str
    documents: float
    tokens: int


#: Documents as their papers count them (Bajaj et al. 2016, Craswell et al. 2021, Overwijk et al. 2022); the tokens of a
#: passage are an estimate, web pages are cut to 512.
COLLECTIONS = (
    Collection("MS MARCO", 8_841_823, 75),
    Collection("MS MARCO v2", 138_364_198, 80),
    Collection("ClueWeb22-B", 200_000_000, 512),
)


@dataclass(frozen=True)
class Encoder:
    """A model; `flops` are those of a token's matrix products, `size` the bytes of a document with so many tokens."""

    name: str
    flops: float
    fixed_bytes: int = 0
    token_bytes: int = 0


#: Dense vectors and token vectors in float16 (dataset-independent), sparse ones as 120 terms with an id and a weight.
ENCODERS = (
    Encoder("MiniLM, 384 dimensions", 21.2e6, fixed_bytes=768),
    Encoder("BERT base, 768 dimensions", 170e6, fixed_bytes=1536),
    Encoder("SPLADE on BERT base", 170e6 + 2 * 768 * 30522, fixed_bytes=120 * 8),
    Encoder("ColBERT on BERT base, 128 dimensions", 170e6, token_bytes=256),
)

#: MiniLM's products in fp32 and bf16 on one core of a Xeon with AMX: 82.8 and 180.2 documents of 50 tokens per second.
CORE_FP32, CORE_BF16 = (rate * 50 * 21.2e6 for rate in (82.8, 180.2))
#: Documents of 60 tokens that 16 cores tokenize per second beside an H200.
TOKENIZED = 49_783


def gpu_rate() -> float:
    """The products and sums per second of BERT base in bf16 on an H200, with all else that encoding does."""
    record = json.loads((Path(__file__).parent / "gpu" / "base" / "speed_encode.json").read_text())
    (line,) = [line for line in record["lines"] if line["precision"] == "bfloat16"]
    load = record["loads"]["sbert"]
    return load["tokens"] * load["operations"] / statistics.median(line["wall_seconds"])


@dataclass(frozen=True)
class Engine:
    """An engine at the largest measured size.

    Attributes:
        documents, bytes, build, milliseconds: what was measured there: bytes per document, seconds to build, time per
            query with 64 at once; one core.
        tokens: of a document, if its size and time follow them.
        build_power: by which power of the documents the time to build grows: 1.5 where clusters grow with their root.
        query_power: the same for a query.
    """

    name: str
    documents: float
    bytes: float
    build: float
    milliseconds: float
    tokens: int | None = None
    build_power: float = 1.0
    query_power: float = 1.0


ENGINES = (
    Engine("faiss_flat, 384 dimensions", 1e6, 1536, 4.0, 10.9),
    Engine("torch_dense bfloat16, 384 dimensions", 1e6, 2304, 6.3, 8.5),
    Engine("binary, 384 dimensions", 1e6, 1584, 4.0, 4.2),
    Engine("faiss_ivf, 384 dimensions, 32 probes", 1e5, 1564, 10.4, 0.246, build_power=1.5, query_power=0.5),
    Engine("faiss_ivf_pq, 384 dimensions", 1e5, 1663, 14.8, 0.724, build_power=1.5, query_power=0.5),
    Engine("sparse, 120 terms", 1e6, 706, 4.7, 1.85),
    Engine("sparse uint8, 120 terms", 1e6, 356, 3.8, 1.82),
    Engine("maxsim bfloat16, 128 dimensions", 1e5, 39_258, 17.3, 268.5, tokens=51),
    Engine("plaid, 128 dimensions", 1e5, 28_267, 909.4, 35.1, tokens=51, build_power=1.5, query_power=0.5),
)


def encoding(collection: Collection, encoder: Encoder) -> list[str]:
    """A line: hours of a core in fp32 and bf16, of a GPU, of 16 tokenizing cores, and the encoding's size."""
    flops = collection.documents * collection.tokens * encoder.flops
    hours = [flops / rate / 3600 for rate in (CORE_FP32, CORE_BF16, gpu_rate())]
    tokenizing = collection.documents * collection.tokens / 60 / TOKENIZED / 3600
    size = collection.documents * (encoder.fixed_bytes + encoder.token_bytes * collection.tokens)
    return [collection.name, encoder.name, *map(number, (*hours, tokenizing)), gigabytes(size)]


def engine(collection: Collection, made: Engine) -> list[str]:
    """A line: the size, hours to build, and milliseconds per query, each of one core."""
    growth = collection.documents / made.documents
    longer = collection.tokens / made.tokens if made.tokens else 1.0
    build = made.build * growth**made.build_power * longer / 3600
    query = made.milliseconds * growth**made.query_power * longer
    size = gigabytes(made.bytes * longer * collection.documents)
    return [collection.name, made.name, size, number(build), number(query)]


def number(value: float) -> str:
    """With two digits, and separators of thousands."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def gigabytes(size: float) -> str:
    """Of 10^9 bytes."""
    return number(size / 1e9)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """In markdown; the first two columns are names."""
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


PAGE = """# Larger collections, on paper

Generated by [scale.py](scale.py); nothing was run at these sizes. The rates of one core are those that
[README.md](README.md) measured with up to a million documents. GPU hours are those of the products at the rate that
BERT base reached on an [H200](gpu/base/README.md) in bf16, {rate} TF/s; smaller models wait for tokenizing and padding
and reached less. Each line is for the whole collection; several cores, GPUs or nodes share encoding
and a `sharded` index, so that hours divide by them.

## Encoding

Documents have 75, 80 and 512 tokens. *Tokenizing* is by 16 cores.

{encodings}

## Indexes and queries

One core, 64 queries at once. Exact engines grow with the collection. The clusters of `faiss_ivf`, `faiss_ivf_pq` and
`plaid` grow with its root, so their time to build grows with its power of 1.5, and that of a query with its root, as
long as the probes stay enough.

{engines}

## What breaks first

- MS MARCO on one machine: the hours of a core. One core encodes it with BERT base in {bert_core} hours in bf16, so a
  GPU is needed for encoding alone; indexes of dense and sparse vectors fit into {dense} GB and {sparse} GB of memory,
  and one core answers a query exactly in less than 0.1 s. ColBERT's exact vectors need {colbert} GB of disk, and
  `plaid` {plaid_build} hours of one core to build.
- MS MARCO v2: memory. An exact dense index takes {dense_2} GB, mapped from disk at the disk's rate; `binary`, which
  holds 48 bytes per document in memory, and `index=sharded` are what is left. A single query costs more than a second
  in the exact dense engine.
- ClueWeb22-B: tokenizing takes {tokenizing_3} hours of 16 cores, so that the GPU waits for it with small encoders;
  token vectors of whole pages take {colbert_3} TB, so that late interaction has to re-rank another engine's run
  (`re_rank` encodes its candidates alone).
- In every collection `encode` keeps 24 bytes and a text position of 8 bytes per document in memory: {ids_1}, {ids_2}
  and {ids_3} GB. `evaluate` and `re_rank` keep 45 bytes per line of a run: 0.31 GB for 6,980 queries with 1,000
  documents each, whatever the collection.
- Beyond one machine's memory and disk, the engine is Milvus, OpenSearch or Vespa (`index=milvus`, `stage=export`),
  none of which was measured at such a size.
"""


def page() -> str:
    """The whole page."""
    one, two, three = COLLECTIONS
    dense, sparse, plaid = ENGINES[0], ENGINES[5], ENGINES[8]
    bert, colbert = ENCODERS[1], ENCODERS[3]
    head = ("collection", "model", "core, fp32: h", "core, bf16: h", "H200, bf16: h", "tokenizing: h", "float16: GB")
    return PAGE.format(
        encodings=table(head, (encoding(each, encoder) for each in COLLECTIONS for encoder in ENCODERS)),
        engines=table(
            ("collection", "engine", "GB", "build: h", "query: ms"),
            (engine(each, made) for each in COLLECTIONS for made in ENGINES),
        ),
        rate=number(gpu_rate() / 1e12),
        bert_core=encoding(one, bert)[3],
        dense=engine(one, dense)[2],
        sparse=engine(one, sparse)[2],
        colbert=encoding(one, colbert)[6],
        plaid_build=engine(one, plaid)[3],
        dense_2=engine(two, dense)[2],
        tokenizing_3=encoding(three, bert)[5],
        colbert_3=number(three.documents * three.tokens * colbert.token_bytes / 1e12),
        **{f"ids_{place}": gigabytes(each.documents * 32) for place, each in enumerate(COLLECTIONS, 1)},
    )


if __name__ == "__main__":
    print(page(), end="")
