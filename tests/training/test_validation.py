"""Validation by retrieval: the same measure as index, search and evaluate give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.stage.chain import run_chain
from irexp.training.validation import Validation
from irexp.types import UserError


def validation(compose: Callable[..., DictConfig], *overrides: str) -> tuple[Validation, float]:
    """A validation of the untrained model, and what it measures."""
    config = compose(*overrides)
    model = instantiate(config.model, _convert_="object")().eval()
    training = OmegaConf.to_object(config.training)
    made = Validation(AwsHowtoDocuments(), AwsHowtoTopics("dev"), model, training, seed=1, token_budget=8192)  # type: ignore[arg-type]
    for number in range(len(made)):
        batch = made[number]
        encode = model.encode_queries if batch.is_query else model.encode_documents
        made.collect(batch, encode(batch.tokens).vectors_BH.detach())
    name, value = made.measure()
    assert name == "nDCG@10"
    return made, value


@pytest.mark.slow
def test_the_whole_collection_gives_what_the_stages_give(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    """Over all documents, validation is exactly the evaluation of the development queries."""
    _, value = validation(compose, "training.validation_documents=null")
    more = ("training=none", "dataset.test.split=dev", f"paths.artifacts={tmp_path}", "machine.progress=false")
    config = compose(*more)
    outcomes = list(run_chain(config, ["fit", "encode", "index", "search", "evaluate"], []))
    assert value == pytest.approx(outcomes[-1].measures["nDCG@10"], abs=1e-6)


def test_a_sample_holds_the_relevant_documents_and_is_drawn_by_the_seed(compose: Callable[..., DictConfig]) -> None:
    """A smaller collection is easier; the same seed draws the same."""
    few, easier = validation(compose, "training.validation_documents=700", "training.validation_queries=50")
    _, again = validation(compose, "training.validation_documents=700", "training.validation_queries=50")
    _, harder = validation(compose, "training.validation_documents=null", "training.validation_queries=50")
    assert easier == again
    assert harder < easier
    assert len(few) >= 2


def test_embeddings_that_are_not_finite_are_an_error(compose: Callable[..., DictConfig]) -> None:
    """A diverged model is named as such."""
    made, _ = validation(compose, "training.validation_documents=700", "training.validation_queries=5")
    batch = made[0]
    vectors = instantiate(compose().model, _convert_="object")().encode_queries(batch.tokens).vectors_BH.detach()
    made.collect(batch, vectors * float("nan"))
    with pytest.raises(UserError, match="the training has diverged"):
        made.measure()
