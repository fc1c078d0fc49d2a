"""Validation by retrieval: it gives the same measure as the stages index, search and evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from irexp.backbone.hugging_face import HuggingFaceBackbone
from irexp.config.schema import Training
from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.dataset.in_memory import TextDocuments, TextTopics
from irexp.dataset.local import LocalDocuments, LocalTopics
from irexp.evaluation.measures import evaluate, parse_measures
from irexp.evaluation.run_file import read_run
from irexp.index.bm25 import BM25Index
from irexp.model.mono import Mono
from irexp.training.validation import ReRanking, Validation, make_validation
from irexp.training.validation_sample import Sample
from irexp.types import ScoredDoc, UserError
from tests.chains import run


def validation(compose: Callable[..., DictConfig], *overrides: str) -> tuple[Validation, float]:
    """A validation of the untrained model, and its measure."""
    config = compose(*overrides)
    model = instantiate(config.model, _convert_="object")().eval()
    training = OmegaConf.to_object(config.training)
    training = cast(Training, training)
    made = make_validation(AwsHowtoDocuments(), AwsHowtoTopics("dev"), model, training, seed=1, token_budget=8192)
    for number in range(len(made)):
        with torch.inference_mode():
            made.collect(made[number])
    ((name, value),) = made.measure().values.items()
    assert name == "nDCG@10"
    return made, value


@pytest.mark.slow
def test_validation_on_all_documents_equals_the_stages(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    """It gives the measure that index, search and evaluate give for the development queries, up to rounding."""
    _, value = validation(compose, "training.validation_documents=null")
    more = ("training=none", "dataset.test.split=dev", f"paths.artifacts={tmp_path}", "machine.progress=false")
    outcomes = run(compose, list(more))
    found = list(read_run(Path(str(outcomes["search"].path)) / "test.run"))
    # A cosine has an error of about 1e-6, and the two use different batches: closer documents may swap places.
    lowest, highest = (ndcg_with_relevant_moved(found, by) for by in (-1e-5, 1e-5))
    assert lowest - 1e-9 <= outcomes["evaluate"].measures["nDCG@10"] <= highest + 1e-9
    assert lowest - 1e-9 <= value <= highest + 1e-9
    assert highest - lowest < 0.01 * value


def ndcg_with_relevant_moved(run: list[ScoredDoc], by: float) -> float:
    """The development measure after adding `by` to relevant documents' scores, and subtracting it elsewhere."""
    qrels = list(AwsHowtoTopics("dev").qrels())
    relevant = {(qrel.query_id, qrel.doc_id) for qrel in qrels if qrel.relevance > 0}
    moved = [line._replace(score=line.score + (by if line[:2] in relevant else -by)) for line in run]
    return evaluate(moved, qrels, parse_measures(["nDCG@10"])).aggregated["nDCG@10"]


def test_a_sample_is_easier_than_the_collection_and_fixed_by_the_seed(compose: Callable[..., DictConfig]) -> None:
    """It keeps all relevant documents, so that the measure is higher; the same seed draws the same sample."""
    few, easier = validation(compose, "training.validation_documents=700", "training.validation_queries=50")
    _, again = validation(compose, "training.validation_documents=700", "training.validation_queries=50")
    _, harder = validation(compose, "training.validation_documents=null", "training.validation_queries=50")
    assert easier == again
    assert harder < easier
    assert len(few) >= 2


def collected(
    compose: Callable[..., DictConfig], override: str, change: Callable[[torch.nn.Module], object]
) -> Validation:
    """A small validation of a changed model, before its measures are computed."""
    config = compose(override, "training.validation_documents=700", "training.validation_queries=5")
    model = instantiate(config.model, _convert_="object")().eval()
    change(model)
    training = cast(Training, OmegaConf.to_object(config.training))
    made = make_validation(AwsHowtoDocuments(), AwsHowtoTopics("dev"), model, training, seed=1, token_budget=8192)
    with torch.inference_mode():
        for number in range(len(made)):
            made.collect(made[number])
    return made


@pytest.mark.parametrize("override", ["model=sbert", "model=splade", "model=colbert", "model=mono"])
def test_embeddings_or_scores_that_are_not_finite_are_an_error(
    override: str, compose: Callable[..., DictConfig]
) -> None:
    """A diverged model is reported, rather than given a measure."""
    made = collected(compose, override, lambda model: next(model.parameters()).data.fill_(float("nan")))
    with pytest.raises(UserError, match="the training has diverged"):
        made.measure()


def test_a_sparse_model_without_terms_has_measures_of_zero(
    compose: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    """A regularizer that is too strong for a while does not end the training, whose earlier weights are kept."""

    def without_terms(model: torch.nn.Module) -> None:
        for name, bias in model.named_parameters():
            if name.endswith("bias") and bias.numel() > 1000:  # of the vocabulary
                bias.data.fill_(-1e3)

    found = collected(compose, "model=splade", without_terms).measure()
    assert (found.values["nDCG@10"], found.value_Q.tolist()) == (0.0, [0.0] * 5)
    assert "no query of the validation retrieves a document" in caplog.text


def test_a_cross_encoder_re_ranks_bm25s_results(compose: Callable[..., DictConfig]) -> None:
    """Each query has at most `validation_depth` documents, with the model's scores of the query and the document."""
    config = compose("model=mono", "training.validation_documents=700", "training.validation_queries=5")
    torch.manual_seed(0)
    model = instantiate(config.model, _convert_="object")().eval()
    training = cast(Training, OmegaConf.to_object(config.training))
    made = make_validation(AwsHowtoDocuments(), AwsHowtoTopics("dev"), model, training, seed=1, token_budget=8192)
    with torch.inference_mode():
        for number in range(len(made)):
            made.collect(made[number])
    run = made.run()
    assert len({line.query_id for line in run}) == 5
    assert len(run) <= 5 * training.validation_depth
    text_of = {query.query_id: query.text for query in AwsHowtoTopics("dev").queries()}
    line = run[7]
    (document,) = AwsHowtoDocuments().get_many([line.doc_id]).values()
    assert line.score == pytest.approx(model.score(text_of[line.query_id], [document.text])[0].item(), abs=1e-5)


def sample(texts: dict[str, str], queries: dict[str, str], qrels: dict[str, list[str]], **more: Any) -> Sample:
    """A sample of its own."""
    topics = TextTopics(queries, qrels)
    measures = parse_measures(["R@100"])
    return Sample([*topics.queries()], [*topics.qrels()], [*TextDocuments(texts)], measures, **more)


def test_a_cross_encoder_is_validated_in_any_script(folders: dict[str, Path]) -> None:
    """Words of English are tried first, then those of any script; a sample without any hit is an error."""
    texts = {"1": "存储桶用于保存文件", "2": "队列用于传递消息"}
    model = Mono(HuggingFaceBackbone(str(folders["encoder"])))
    made = ReRanking(sample(texts, {"q": "保存文件"}, {"q": ["1"]}), model, depth=10, token_budget=1000)
    assert len(made) == 1
    with pytest.raises(UserError, match="the validation has nothing to re-rank"):
        ReRanking(sample(texts, {"q": "字典"}, {"q": ["1"]}), model, depth=10, token_budget=1000)


@pytest.mark.parametrize("depth", [100, 3])
def test_the_querys_own_document_takes_no_place_in_a_validation(depth: int) -> None:
    """It is left out before the results are cut, as in a search."""
    texts = {"q": "create a bucket", **{str(n): f"create a bucket {n}" for n in range(150)}}
    found = sample(texts, {"q": "create a bucket"}, {"q": ["1"]}, remove_query=True)
    rankings = ReRanking._candidates(Bare(found), BM25Index(), depth)
    assert [len(ranking) for ranking in rankings] == [depth]
    assert "q" not in dict(rankings[0])


class Bare(ReRanking):
    """A validation without a model."""

    def __init__(self, sample: Sample) -> None:
        """Keep the sample."""
        Validation.__init__(self, sample)


@pytest.mark.parametrize(
    ("relevance", "remove_query", "expected"),
    [(None, None, 1 / 2), (None, True, 1.0), (2, None, 1 / 3), (2, True, 1 / 2)],
)
def test_development_queries_are_measured_as_their_collection_says(
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    relevance: int | None,
    remove_query: bool | None,
    expected: float,
) -> None:
    """The collection sets the grade that counts as relevant, and whether the query's own document is dropped."""
    texts = {"q": "create a bucket", "d1": "create a bucket for files", "d2": "the colour of the moon"}
    (tmp_path / "c.tsv").write_text("".join(f"{doc_id}\t{text}\n" for doc_id, text in texts.items()))
    (tmp_path / "q.tsv").write_text("q\tcreate a bucket\n")
    (tmp_path / "qrels.tsv").write_text("q\td1\t1\nq\td2\t2\n")
    topics = LocalTopics(
        str(tmp_path / "q.tsv"),
        qrels_path=str(tmp_path / "qrels.tsv"),
        relevance=relevance,
        remove_query=remove_query,
    )
    config = compose("training.select_by=RR@10")
    model = instantiate(config.model, _convert_="object")().eval()
    training = cast(Training, OmegaConf.to_object(config.training))
    made = make_validation(LocalDocuments(str(tmp_path / "c.tsv")), topics, model, training, seed=1, token_budget=8192)
    with torch.inference_mode():
        for number in range(len(made)):
            made.collect(made[number])
    assert made.measure().values == {"RR@10": pytest.approx(expected)}
