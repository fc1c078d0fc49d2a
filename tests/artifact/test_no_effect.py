"""What would have no effect is an error, or a warning, before anything is made."""

from __future__ import annotations

import pytest

from irexp.types import UserError
from tests.artifact.test_plan import plan_of
from tests.chains import Compose


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (
            ["model=fusion", "fuse.weights=[0.7,0.3]"],
            r"fuse\.weights is used by fuse\.method=wsum alone",
        ),
        (["schedule.warmup=500"], r"schedule\.warmup=500 steps are not over when training\.steps=500 are"),
        (["model=splade", "regularizer.ramp=50000"], r"regularizer\.ramp=50000 steps are not over"),
        (["training.learning_rate=0"], r"training\.learning_rate=0.* trains nothing"),
        (["training.validate_every=null", "training.patience=3"], r"training\.patience counts validations"),
        (["training.validate_every=null", "validation=nano_beir"], r"training\.validate_every=null never does"),
        (["training.quantization=8bit", "adapter=lora"], r"training\.quantization: '8bit' is not a choice"),
    ],
)
def test_what_would_have_no_effect_is_a_fault(compose: Compose, overrides: list[str], fault: str) -> None:
    """Each was accepted, and ignored or trained nothing."""
    with pytest.raises(UserError, match=fault):
        plan_of(compose, *overrides, stages=["fuse"] if "model=fusion" in overrides else ["fit"])


def test_a_typed_value_that_every_column_replaces_is_named(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    """Each column's own collection has its own lengths; a value that one row keeps is not ignored."""
    columns = "columns={A:['dataset=aws_howto'],B:['dataset=aws_howto','seed=1']}"
    with caplog.at_level("WARNING"):
        plan_of(compose, "model=bm25", "dataset.query_length=7", "index.k1=2", columns, stages=["search"])
    (text,) = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert text.startswith("dataset.query_length=7: ignored, since the table's rows or columns choose dataset=…")
