"""What a training refuses is said before a job's first step, for every row of a table."""

from __future__ import annotations

import pytest

from irexp.stage.settings import require_settings
from irexp.types import UserError
from tests.artifact.test_plan import plan_of
from tests.chains import Compose


def test_each_refused_training_is_named_before_the_first_step(compose: Compose) -> None:
    """Both rows that cannot be trained are named at once; a model that a checkpoint decides is not judged."""
    rows = "rows={A:['model=colbert','regularizer=flops'],B:['training.accumulate_batches=5'],C:['model=sbert']}"
    plan = plan_of(compose, rows, stages=["fit"])
    with pytest.raises(UserError, match=r"a ColBERT has one per token.*\n.*must be a multiple of 5"):
        require_settings(plan.steps)
    initial = plan_of(compose, 'artifact.initial=["model=splade"]', "regularizer=flops", stages=["fit"])
    require_settings(initial.steps)
    require_settings(plan_of(compose, "model=bm25", stages=["search"]).steps)


def test_a_teacher_whose_scores_nothing_learns_is_refused(compose: Compose) -> None:
    """Hours of scoring would have changed nothing but which negatives are left."""
    plan = plan_of(compose, "teacher=mono", "negatives=bm25", "loss=info_nce", stages=["fit"])
    with pytest.raises(UserError, match="InfoNCE learns nothing from a teacher's scores"):
        require_settings(plan.steps)
