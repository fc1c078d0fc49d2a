"""Score training examples with a model: a teacher's targets, or what likely relevant negatives are recognised by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irexp.config.schema import Machine
from irexp.dataset.collection import Documents, Examples
from irexp.dataset.sources import DocumentSource, ExampleSource, open_documents, open_examples
from irexp.evaluation.run_file import run_heads
from irexp.model.model import Model
from irexp.pipeline.component import component
from irexp.pipeline.precision import prepare_scorer
from irexp.pipeline.re_rank import Candidates, check_depth, score_candidates
from irexp.pipeline.run_source import RunSource, lines_of_run, runs_of
from irexp.types import Query, ScoredDoc


def score(
    model: Model,
    examples: ExampleSource,
    documents: DocumentSource,
    *,
    runs: Sequence[RunSource] = (),
    depth: int = 100,
    precision: str = "float32",
    machine: Machine | None = None,
) -> list[ScoredDoc]:
    """Score every document that a training example names, and the top documents of runs over the training queries.

    Args:
        model: a cross-encoder or a bi-encoder.
        examples: what `open_examples` opens; their documents are scored whether or not a run found them.
        documents: what `open_documents` opens.
        runs: over the training queries: what `search` returned, or run files.
        depth: documents per query and run.
        precision: of the computation: float32, bfloat16, or int8 on a processor.
        machine: where it runs; None for `component("machine")`.

    Returns:
        The scores, best first per query: the argument `scores` of `fit` and of `mine`.

    Raises:
        UserError: if the precision cannot be had, or `runs` is not a list of runs.
    """
    machine = machine or component("machine")
    check_depth(depth, "score.depth")
    in_precision = prepare_scorer(model, machine, "score.precision", precision)
    collection, opened = open_documents(documents), open_examples(examples)
    pairs = pairs_of(opened, collection, [run_heads(lines_of_run(run), depth) for run in runs_of(runs)])
    return score_candidates(model, pairs, opened.texts(collection), machine=machine, in_precision=in_precision)


def pairs_of(
    examples: Examples, documents: Documents, rankings: Sequence[Mapping[str, Sequence[str]]]
) -> list[Candidates]:
    """The documents to score for each training query, each once: those of its examples, then those of the rankings.

    Documents that examples name and the collection lacks are left out.
    """
    unknown = examples.unknown_doc_ids(documents)
    queries: dict[str, Query] = {}
    doc_ids_of: dict[str, dict[str, None]] = {}
    for position in range(len(examples)):
        example = examples[position]
        queries[example.query.query_id] = example.query
        known = dict.fromkeys(doc_id for doc_id in example.doc_ids if doc_id not in unknown)
        doc_ids_of.setdefault(example.query.query_id, {}).update(known)
    for query_id, found in doc_ids_of.items():
        for ranking in rankings:
            found.update(dict.fromkeys(ranking.get(query_id, ())))
    return [(queries[query_id], list(found)) for query_id, found in doc_ids_of.items()]
