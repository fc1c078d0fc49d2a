"""What MS MARCO, its second version and ClueWeb22-B would cost, computed from measured rates: a page on paper.

    python experiments/speed/scale.py > experiments/speed/scale.md

With a number, `scale.py 8`, it counts the GPUs that encode within so many hours, instead of 24. Nothing here was run at
these sizes. Rates are read from the records in this folder, gpu/ and tests/gpu/h200.md, all of smaller collections;
each is said to grow as its engine's arithmetic does.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent

#: The records of a GPU: encoding in bf16 with BERT base, and re-ranking in fp32 with MiniLM.
GPU_ENCODE, GPU_RE_RANK = "gpu/base/speed_encode.json", "gpu/minilm/speed_re_rank.json"

#: An estimate of a query's tokens, and what is re-ranked: the queries of MS MARCO's dev set with so many candidates.
QUERY_TOKENS, QUERIES, CANDIDATES = 10, 6_980, 1_000


@cache
def record(name: str) -> dict[str, Any]:
    """What `stage=peers` or benchmark.py measured."""
    found: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf8"))
    return found


def rate(name: str, line: str = "irexp") -> float:
    """Products and sums per second of a core, or of a GPU, with all else that the stage does; of a line of a record."""
    kept = record(name)
    (found,) = [one for one in kept["lines"] if one["name"] == line]
    load = kept["loads"][found["model"]]
    passes = 3 if kept["task"] == "fit" else 1  # the backward pass multiplies twice as often
    seconds = statistics.median(found["cpu_seconds"] or found["wall_seconds"])
    return float(passes * load["tokens"] * load["operations"] / seconds)


def operations(name: str) -> int:
    """The products and sums of a record's model for one token."""
    (load,) = record(name)["loads"].values()
    return int(load["operations"])


def tokenized() -> int:
    """Documents of 60 tokens that 16 cores tokenize per second beside an H200."""
    text = (FOLDER.parents[1] / "tests" / "gpu" / "h200.md").read_text(encoding="utf8")
    (found,) = re.findall(r"\| documents per second, tokenizing \| (\d+) \|", text)
    return int(found)


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


MINILM, BERT = operations("speed_encode.json"), operations(GPU_ENCODE)

#: Dense vectors and token vectors in float16 (dataset-independent), sparse ones as 120 terms with an id and a weight.
ENCODERS = (
    Encoder("MiniLM, 384 dimensions", MINILM, fixed_bytes=768),
    Encoder("BERT base, 768 dimensions", BERT, fixed_bytes=1536),
    Encoder("SPLADE on BERT base", BERT + 2 * 768 * 30522, fixed_bytes=120 * 8),
    Encoder("ColBERT on BERT base, 128 dimensions", BERT, token_bytes=256),
)


class Measured(NamedTuple):
    """What engines.json says of an engine over so many documents, by one core; milliseconds per query, 64 at once."""

    documents: int
    seconds: float
    bytes: float
    milliseconds: float


@cache
def measured() -> Mapping[str, Sequence[Measured]]:
    """The lines of each engine in the record of benchmark.py, those of few documents first."""
    found: dict[str, list[Measured]] = {}
    for kind, sizes in record("engines.json").items():
        for size, kept in sizes.items() if kind != "rerank" else ():
            for line in kept["lines"]:
                costs = line["build_seconds"], line["bytes"], line["ms"][1]
                found.setdefault(line["engine"], []).append(Measured(int(size), *costs))
    return {name: sorted(lines) for name, lines in found.items()}


@dataclass(frozen=True)
class Engine:
    """An engine, which engines.json has at one size or more.

    Attributes:
        name: there.
        vectors: that it holds.
        tokens: of a document, if its size and time follow them.
        fixed_bytes: of a document that do not follow its tokens.
        build_power: by which power of the documents the time to build grows: 1.5 where clusters grow with their root;
            None for the power between the two largest measured sizes.
        query_power: the same for a query.
        is_timed: whether its times at the measured size carry over.
    """

    name: str
    vectors: str
    tokens: int | None = None
    fixed_bytes: float = 0.0
    build_power: float | None = 1.0
    query_power: float | None = 1.0
    is_timed: bool = True


#: The vectors of README.md.
_DENSE, _SPARSE, _TOKENS = "384 dimensions", "120 terms", "128 dimensions"

ENGINES = (
    Engine("faiss_flat", _DENSE),
    Engine("torch_dense bfloat16", _DENSE),
    Engine("binary", _DENSE),
    Engine("faiss_sq", _DENSE),
    Engine("faiss_ivf", f"{_DENSE}, 32 probes", build_power=1.5, query_power=0.5),
    Engine("faiss_ivf_pq", _DENSE, build_power=1.5, query_power=0.5),
    Engine("faiss_hnsw", _DENSE, build_power=None, query_power=None),
    Engine("milvus FLAT", _DENSE, is_timed=False),
    Engine("milvus HNSW", _DENSE, is_timed=False),
    Engine("sparse", _SPARSE),
    Engine("sparse uint8", _SPARSE),
    Engine("milvus_sparse", _SPARSE, is_timed=False),
    Engine("maxsim bfloat16", _TOKENS, tokens=51),
    Engine("plaid", _TOKENS, tokens=51, build_power=1.5, query_power=0.5),
    Engine("xtr", _TOKENS, tokens=51, is_timed=False),
    Engine("muvera", _TOKENS, tokens=51, fixed_bytes=4 * 5120, is_timed=False),
    Engine("milvus_tokens", _TOKENS, tokens=51, is_timed=False),
)


def encoding(collection: Collection, encoder: Encoder, hours: float) -> list[str]:
    """A line: hours of a core in fp32 and bf16, and of a GPU; GPUs; hours of 16 tokenizing cores; the size."""
    flops = collection.documents * collection.tokens * encoder.flops
    rates = (
        rate("speed_encode.json"),
        rate("speed_encode.json", "irexp, bfloat16"),
        rate(GPU_ENCODE, "irexp, bfloat16"),
    )
    took = [flops / each / 3600 for each in rates]
    tokenizing = collection.documents * collection.tokens / 60 / tokenized() / 3600
    size = collection.documents * (encoder.fixed_bytes + encoder.token_bytes * collection.tokens)
    gpus = str(math.ceil(took[-1] / hours))
    return [collection.name, encoder.name, *map(number, took), gpus, number(tokenizing), gigabytes(size)]


def pairs(collection: Collection, encoder: Encoder) -> list[str]:
    """A line: seconds of a training step of a core, and hours of re-ranking, also of a GPU if that was measured."""
    tokens = QUERY_TOKENS + collection.tokens
    step = 3 * record("speed_fit.json")["loads"]["sbert"]["items"] * tokens * encoder.flops / rate("speed_fit.json")
    flops = QUERIES * CANDIDATES * tokens * encoder.flops
    on_gpu = number(flops / rate(GPU_RE_RANK) / 3600) if encoder.flops == operations(GPU_RE_RANK) else ""
    on_core = number(flops / rate("speed_re_rank.json") / 3600)
    return [collection.name, encoder.name.partition(",")[0], number(step), on_core, on_gpu]


def engine(collection: Collection, made: Engine) -> list[str]:
    """A line: the size, hours to build, and milliseconds per query, each of one core."""
    lines = measured()[made.name]
    last = lines[-1]
    growth = collection.documents / last.documents
    longer = collection.tokens / made.tokens if made.tokens else 1.0
    size = collection.documents * (made.fixed_bytes + (last.bytes - made.fixed_bytes) * longer)
    powers = [made.build_power, made.query_power]
    if None in powers:
        before = lines[-2]
        ratios = (last.seconds / before.seconds, last.milliseconds / before.milliseconds)
        powers = [math.log(ratio) / math.log(last.documents / before.documents) for ratio in ratios]
    build, query = (
        value * growth**power * longer
        for value, power in zip((last.seconds / 3600, last.milliseconds), powers, strict=True)
        if power is not None
    )
    times = [number(build), number(query)] if made.is_timed else ["", ""]
    return [collection.name, f"{made.name}, {made.vectors}", gigabytes(size), *times]


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
[README.md](README.md) measured, of encoding, re-ranking and training with MiniLM, and of engines with up to a million
documents. GPU hours are those of the products at the rate that BERT base reached on an [H200](gpu/base/README.md) in
bf16, {rate} TF/s; smaller models wait for tokenizing and padding and reached less. Each line is for the whole
collection; several cores, GPUs or nodes share encoding and a `sharded` index, so that hours divide by them.

## Encoding

Documents have 75, 80 and 512 tokens. *Tokenizing* is by 16 cores. *H200s for {hours} h* encode within that time:
`python experiments/speed/scale.py 8` counts those for eight hours.

{encodings}

## Training and re-ranking

A step has {step} examples of a query of {query} tokens and a document; its time does not grow with the collection.
Re-ranking is of {candidates} candidates for each of {queries} queries, and on the H200 in fp32, in which it was
measured with [MiniLM](gpu/minilm/README.md). Training on a GPU and `stage=export` have no recorded rate.

{pairs}

## Indexes and queries

One core, 64 queries at once. Exact engines grow with the collection. The clusters of `faiss_ivf`, `faiss_ivf_pq` and
`plaid` grow with its root, so their time to build grows with its power of 1.5, and that of a query with its root, as
long as the probes stay enough. Those of `faiss_hnsw` grow as they did between the two largest measured sizes. Without
times are the engines that were measured with 10,000 documents or fewer (`milvus_tokens` with 1,000), where much of the
time does not grow with the documents; Milvus is Milvus Lite.

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


def page(hours: float) -> str:
    """The whole page, which counts the GPUs that encode within so many hours."""
    one, two, three = COLLECTIONS
    by_name = {made.name: made for made in ENGINES}
    minilm, bert, _, colbert = ENCODERS
    head = ("collection", "model", "core, fp32: h", "core, bf16: h", "H200, bf16: h", f"H200s for {hours:g} h")
    return PAGE.format(
        encodings=table(
            (*head, "tokenizing: h", "float16: GB"),
            (encoding(each, encoder, hours) for each in COLLECTIONS for encoder in ENCODERS),
        ),
        pairs=table(
            ("collection", "model", "fit, a step of a core: s", "re_rank, core: h", "re_rank, H200: h"),
            (pairs(each, encoder) for each in COLLECTIONS for encoder in (minilm, bert)),
        ),
        engines=table(
            ("collection", "engine", "GB", "build: h", "query: ms"),
            (engine(each, made) for each in COLLECTIONS for made in ENGINES),
        ),
        hours=f"{hours:g}",
        step=record("speed_fit.json")["loads"]["sbert"]["items"],
        query=QUERY_TOKENS,
        queries=f"{QUERIES:,}",
        candidates=f"{CANDIDATES:,}",
        rate=number(rate(GPU_ENCODE, "irexp, bfloat16") / 1e12),
        bert_core=encoding(one, bert, hours)[3],
        dense=engine(one, by_name["faiss_flat"])[2],
        sparse=engine(one, by_name["sparse"])[2],
        colbert=encoding(one, colbert, hours)[7],
        plaid_build=engine(one, by_name["plaid"])[3],
        dense_2=engine(two, by_name["faiss_flat"])[2],
        tokenizing_3=encoding(three, bert, hours)[6],
        colbert_3=number(three.documents * three.tokens * colbert.token_bytes / 1e12),
        **{f"ids_{place}": gigabytes(each.documents * 32) for place, each in enumerate(COLLECTIONS, 1)},
    )


if __name__ == "__main__":
    print(page(float(sys.argv[1]) if len(sys.argv) > 1 else 24.0), end="")
