"""A chain of stages over a dozen documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from irexp.artifact.experiment import Experiment
from irexp.artifact.plan import Plan, make_plan
from irexp.artifact.store import Store
from irexp.stage.execute import Outcome, execute

STAGES = ["fit", "encode", "index", "search", "evaluate"]
TEXTS = [f"how to {verb} a {noun}" for verb in ("make", "list", "delete", "copy") for noun in ("cup", "tree", "song")]

Compose = Callable[..., DictConfig]


def write_collection(folder: Path, queries: dict[str, str], judged: dict[str, str]) -> Path:
    """The dozen documents in BEIR's layout, with queries, and judgements by their split."""
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", {f"d{n}": text for n, text in enumerate(TEXTS)}), ("queries", queries)):
        lines = [json.dumps({"_id": identifier, "text": text}) for identifier, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    for split, lines_of in judged.items():
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines_of)
    return folder


def settings(tmp_path: Path, collection: Path, *more: str) -> list[str]:
    """The overrides of an untrained model on the collection, in one thread wherever it runs, for the same last bits."""
    return [
        "training=none",
        "dataset=local",
        f"dataset.path={collection}",
        f"paths.artifacts={tmp_path / 'artifacts'}",
        "machine.progress=false",
        "machine.threads=1",
        *more,
    ]


def planned(compose: Compose, overrides: list[str], names: list[str] = STAGES) -> Plan:
    """The plan of stages."""
    return make_plan(Experiment(tuple(overrides), compose(*overrides)), names)


def run(compose: Compose, overrides: list[str], names: list[str] = STAGES) -> dict[str, Outcome]:
    """Run stages; stage → outcome, for those that make something."""
    plan = planned(compose, overrides, names)
    output = Path(plan.experiment.root).parent
    return {
        outcome.stage: outcome
        for step, outcome, _ in execute(plan, Store(plan.experiment.root), output)
        if step in plan.own
    }


def name_of(plan: Plan, kind: str, reason: str = "this experiment") -> str:
    """The name of the artifact of a kind that is in a plan for a reason."""
    found = {step.name for step in plan.steps if step.name.startswith(f"{kind}/") and step.reason.startswith(reason)}
    (name,) = found
    return name
