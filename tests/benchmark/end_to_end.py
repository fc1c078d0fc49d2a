"""Index, search and re-rank in irexp beside Lightning IR: `python -m tests.benchmark.end_to_end`.

Both work on the embedded collection with the same weights, each in a process of its own, in turns: exact dense search
for the top 100, which a cross-encoder re-ranks, first with one thread, then with all cores. A turn begins with texts on
disk and ends with a run on disk; opening the models is not timed. The runs of both must agree.
experiments/speed/README.md says how to make the environment.

    python -m tests.benchmark.end_to_end --lightning-ir lir/bin/python --output experiments/speed
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import statistics
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from irexp import component, new_model, save
from irexp.artifact.hardware import usable_processors
from irexp.artifact.provenance import processor
from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.dataset.collection import Documents, Topics
from irexp.evaluation.run_file import read_run
from irexp.peer.chain import STAGES, Chain, run_of
from irexp.peer.lines import write_section
from irexp.peer.workers import LIBRARIES, Worker, check_pythons, worker
from irexp.types import ScoredDoc

log = logging.getLogger(__name__)

#: The smallest share of results that both runs have, and the largest difference of a shared one's score.
SHARED, TOLERANCE = 0.99, 1e-3

_OTHER = "lightning_ir"
_LENGTHS: dict[str, Any] = {"query_length": 24, "document_length": 80}  # as conf/dataset/aws_howto.yaml


def write_data(folder: Path, documents: Documents, topics: Topics) -> dict[str, int]:
    """Write a collection and its queries in both libraries' formats, each text as one line; return how many."""
    (folder / "qrels").mkdir(parents=True)
    lines = {
        "corpus": {document.doc_id: " ".join(document.text.split()) for document in documents},
        "queries": {query.query_id: " ".join(query.text.split()) for query in topics.queries()},
    }
    for name, theirs in (("corpus", "docs"), ("queries", "queries")):
        rows = [json.dumps({"_id": key, "text": text}) for key, text in lines[name].items()]
        _write(folder / f"{name}.jsonl", rows)
        _write(folder / f"{theirs}.tsv", ["\t".join(item) for item in lines[name].items()])
    judged = [f"{qrel.query_id}\t{qrel.doc_id}\t{qrel.relevance}" for qrel in topics.qrels()]
    _write(folder / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *judged])
    return {"documents": len(lines["corpus"]), "queries": len(lines["queries"])}


def difference(ours: Iterable[ScoredDoc], theirs: Iterable[ScoredDoc]) -> tuple[float, float]:
    """The share of the results that both have, and the largest difference of their scores."""
    first, second = ({(line.query_id, line.doc_id): line.score for line in run} for run in (ours, theirs))
    both = first.keys() & second.keys()
    return len(both) / max(len(first), len(second)), max((abs(first[key] - second[key]) for key in both), default=0.0)


def check_same(ours: Chain, theirs: Chain) -> None:
    """Compare the runs of both libraries.

    Raises:
        RuntimeError: naming the stage, if they differ.
    """
    for stage in ("search", "re_rank"):
        shared, largest = difference(*(read_run(run_of(chain, stage)) for chain in (ours, theirs)))
        if shared < SHARED or largest > TOLERANCE:
            raise RuntimeError(f"{stage}: {shared:.1%} of the results are the same, and scores differ by {largest:.2g}")


def table(found: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> str:
    """The Markdown table: per stage and in all, the medians over the rounds, and of the ratio in each round.

    Args:
        found: by number of threads (`one`, `all`) and library, the answer of each round.
    """
    rows = [
        "| stage | irexp, CPU s | Lightning IR | of irexp's | irexp, s, all cores | Lightning IR | of irexp's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, stages in (*((stage, [stage]) for stage in STAGES), ("all", list(STAGES))):
        cells = [name]
        for threads, kind in (("one", "cpu_seconds"), ("all", "wall_seconds")):
            ours, theirs = (
                [sum(one["stages"][stage][kind] for stage in stages) for one in found[threads][library]]
                for library in ("irexp", _OTHER)
            )
            ratio = statistics.median(second / first for first, second in zip(ours, theirs, strict=True))
            cells += [f"{statistics.median(ours):.1f}", f"{statistics.median(theirs):.1f}", f"{ratio:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def about(record: Mapping[str, Any]) -> str:
    """What the table's values depend on."""
    versions = (f"{name}: {', '.join(f'{k} {v}' for k, v in of.items())}" for name, of in record["versions"].items())
    sizes = f"{record['documents']:,} documents, {record['queries']:,} queries, top {record['depth']}"
    return "; ".join([f"{record['processor']}, {record['cores']} cores", record["backbone"], sizes, *versions]) + "."


def main() -> None:
    """Measure in turns, check that the runs agree, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lightning-ir", metavar="PYTHON", required=True, help="the interpreter of its environment")
    parser.add_argument("--backbone", default="splade_tiny", help="an option of conf/backbone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--output", type=Path, help="a folder for end_to_end.json, whose README.md gets the table")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    check_pythons({_OTHER: options.lightning_ir})
    with tempfile.TemporaryDirectory() as place, worker("irexp") as ours, worker(_OTHER, options.lightning_ir) as other:
        folder = Path(place)
        for name, model in (("encoder", "sbert"), ("scorer", "mono")):
            save(new_model(model, backbone=component("backbone", options.backbone), **_LENGTHS), folder / name)
        sizes = write_data(folder / "data", AwsHowtoDocuments(), AwsHowtoTopics("test"))
        record = {
            **{"processor": processor(), "cores": usable_processors(), "backbone": options.backbone},
            **{"depth": options.depth, **sizes},
            "versions": {"irexp": ours.versions, LIBRARIES[_OTHER].name: other.versions},
            "rounds": rounds([ours, other], folder, options.rounds, depth=options.depth, **sizes),
        }
    shown = f"{about(record)}\n\n{table(record['rounds'])}"
    if options.output is not None:
        (options.output / "end_to_end.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
        write_section(options.output / "README.md", "end_to_end", shown)
    log.info("%s", shown)


def rounds(
    workers: list[Worker], folder: Path, count: int, *, depth: int, documents: int, queries: int
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By number of threads, the answers of irexp and another library, which is the first in every second round."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        threads: {each.library: [] for each in workers} for threads in ("one", "all")
    }
    parts = {"encoder": "encoder", "scorer": "scorer", "data": "data"}
    paths: dict[str, Any] = {name: str(folder / part) for name, part in parts.items()}
    for number, threads in itertools.product(range(count), found):
        chains = {}
        for each in workers if number % 2 == 0 else workers[::-1]:
            output = folder / f"{each.library}-{number}-{threads}"
            output.mkdir()
            sizes: dict[str, Any] = {"depth": depth, "documents": documents, "queries": queries}
            chain = Chain(**paths, output=str(output), **_LENGTHS, **sizes, threads=1 if threads == "one" else None)
            answer = each.ask({"task": "chain", "chain": asdict(chain)})
            found[threads][each.library].append(answer)
            chains[each.library] = chain
            log.info("round %d, threads %s, %s: %s", number + 1, threads, each.library, answer["stages"])
        check_same(chains["irexp"], chains[workers[1].library])
    return found


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")


if __name__ == "__main__":
    main()
