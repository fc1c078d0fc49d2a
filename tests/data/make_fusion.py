"""Makes tests/data/fusion.json: what ranx makes of small random runs, in an environment of its own.

    pip install ranx==0.3.21 && python make_fusion.py

`runs`, with `fused` by method and norm; `tuned_runs` with `qrels`, and `tuned` by measure, norm, step and number of
runs: the weights of ranx.optimize_fusion. All of `tuned_runs` find the same documents, so that no two of them tie: ranx
leaves the order of ties open.
"""

import json
import random
from pathlib import Path
from typing import Any

import ranx

Runs = list[dict[str, dict[str, float]]]

FILE = Path(__file__).with_name("fusion.json")
#: No longer than other ids: without a norm ranx cuts the ids of all runs to the longest of the first.
NOTHING = "-"
WEIGHTS = [0.2, 0.3, 0.5]
NORMS = ("min-max", "zmuv", "none")
MEASURES = {
    **{"nDCG@10": "ndcg@10", "nDCG": "ndcg", "RR": "mrr", "RR@3": "mrr@3", "AP": "map"},
    **{"R@5": "recall@5", "P@3": "precision@3", "Success@2": "hit_rate@2"},
}


def make_runs(documents: int, depth: int, queries: int, qrels: dict[str, dict[str, int]]) -> Runs:
    """Three runs, best first, of which the later know more of what is relevant."""
    runs: Runs = []
    for number in range(3):
        run = {}
        for query in [f"q{number}" for number in range(queries)]:
            found = random.sample(range(documents), depth)
            gain = qrels.get(query, {})
            scores = {f"d{d}": round(random.gauss(0, 3) + (1 + number / 4) * gain.get(f"d{d}", 0), 4) for d in found}
            run[query] = dict(sorted(scores.items(), key=lambda pair: -pair[1]))
        runs.append(run)
    return runs


def fuse(runs: Runs, method: str, norm: str) -> Any:
    """The scores of ranx, which wants the same queries in all runs: one that a run lacks gets a document to remove."""
    queries = sorted({query for run in runs for query in run})
    filled = [ranx.Run({query: run.get(query, {NOTHING: 0.0}) for query in queries}) for run in runs]
    params = {"rrf": {"k": 60}, "wsum": {"weights": WEIGHTS}}.get(method)
    fused = ranx.fuse(filled, norm=None if norm == "none" else norm, method=method, params=params).to_dict()
    return {query: {doc_id: score for doc_id, score in fused[query].items() if doc_id != NOTHING} for query in queries}


random.seed(0)
runs = make_runs(documents=9, depth=6, queries=3, qrels={})
del runs[2]["q1"]
qrels = {f"q{query}": {f"d{random.randrange(15)}": random.randint(1, 3) for _ in range(5)} for query in range(12)}
tuned_runs = make_runs(documents=15, depth=15, queries=12, qrels=qrels)

fused = {
    f"{method} {norm}": fuse(runs, method, norm)
    for method in ("rrf", "sum", "mnz", "wsum")
    for norm in (NORMS if method != "rrf" else ("none",))
}
tuned = {}
for number, step in ((2, 0.1), (3, 0.1), (3, 0.25)):
    for norm in NORMS:
        for name, metric in MEASURES.items():
            best = ranx.optimize_fusion(
                ranx.Qrels(qrels),
                [ranx.Run(run) for run in tuned_runs[:number]],
                norm=None if norm == "none" else norm,
                method="wsum",
                metric=metric,
                step=step,
                show_progress=False,
            )
            tuned[f"{name} {norm} {step} {number}"] = [float(weight) for weight in best["weights"]]

made_by = "make_fusion.py with ranx 0.3.21"
content: dict[str, Any] = {"made_by": made_by, "weights": WEIGHTS, "runs": runs, "fused": fused}
content |= {"tuned_runs": tuned_runs, "qrels": qrels, "tuned": tuned}
FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in content.items()) + "\n}\n")
