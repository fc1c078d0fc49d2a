"""A plan names faults once, leaves out baselines that are the experiment, and refuses other kinds of checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from irexp.config.check import ConfigError
from tests.chains import Compose, planned

ALL = ["fit", "encode", "index", "search", "re_rank", "fuse", "evaluate", "report"]


@pytest.mark.parametrize(
    "overrides", [["model=sbert", "index=sparse"], ["model=fusion", "fuse.method=wsum", "fuse.weights=[1]"]]
)
def test_a_fault_of_the_experiment_is_not_repeated_for_its_baseline(compose: Compose, overrides: list[str]) -> None:
    """A baseline takes over what was typed, and with it the fault."""
    with pytest.raises(ConfigError) as error:
        planned(compose, overrides, ALL)
    (fault,) = error.value.faults
    assert "baseline" not in fault


@pytest.mark.parametrize(("model", "rows"), [("bm25", 1), ("fusion", 1), ("sbert", 2)])
def test_a_baseline_without_training_is_left_out_where_nothing_is_trained(
    compose: Compose, model: str, rows: int
) -> None:
    """It would be the same artifact as the experiment, and give its row the name training=none."""
    only = ['baselines=[["training=none"]]']
    reasons = {step.reason for step in planned(compose, [f"model={model}", *only], ALL).goals}
    assert len([each for each in reasons if each in ("this experiment", "baseline training=none")]) == rows


@pytest.mark.parametrize(
    ("files", "model", "message"),
    [
        ({"irexp.json": {"family": "splade"}}, "mono", r"SPLADE \(one sparse.*model=mono is Mono.*set model=splade$"),
        (
            {"irexp.json": {"family": "dense"}},
            "colbert",
            r"model=colbert is ColBERT.*set model=sbert$",
        ),
        ({"irexp.json": {"family": "mono"}}, "sbert", "set model=mono$"),
        ({"modules.json": [{"type": "a.SpladePooling"}]}, "sbert", "set model=splade$"),
        ({"modules.json": [{"type": "pylate.models.Dense"}]}, "sbert", "set model=colbert$"),
        ({"modules.json": [{"type": "a.Pooling"}]}, "splade", "set model=sbert$"),
        ({"irexp.json": {"family": "dense"}}, "dpr", None),
        ({"irexp.json": {"family": "mono"}}, "set_encoder", None),
        ({"irexp.json": {"family": "other.package.Dense"}}, "mono", None),
        ({"config.json": {}}, "splade", None),
        ({"modules.json": 3}, "splade", None),
        ({"irexp.json": {"family": "splade"}}, None, None),
    ],
)
def test_a_checkpoint_that_scores_in_another_way_than_the_typed_model_is_a_fault(
    compose: Compose, tmp_path: Path, files: dict[str, Any], model: str | None, message: str | None
) -> None:
    """Its run would bear the name of another model, or fail once encoding has begun."""
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    typed = [*([f"model={model}"] if model else []), f"artifact.checkpoint={tmp_path}"]
    stages = ["re_rank", "evaluate"] if model in ("mono", "set_encoder") else ["encode"]
    if message is None:
        planned(compose, typed, stages)
        return
    with pytest.raises(ConfigError) as error:
        planned(compose, typed, stages)
    (fault,) = error.value.faults
    assert re.search(message, fault)
