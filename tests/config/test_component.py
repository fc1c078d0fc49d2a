"""The check of components: which targets are allowed where, and whether they fit their signatures."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from irexp.config.component import component_faults

SPLADE = {"_target_": "irexp.model.splade.SPLADE", "_partial_": True, "name": "splade"}
LOSS = {"_target_": "irexp.loss.info_nce.InfoNCE"}
HNSW = {"_target_": "irexp.index.faiss_index.Faiss", "factory": "Flat"}
SEARCH = {"_target_": "irexp.index.faiss_index.FaissSearch"}
FLOPS = {"_target_": "irexp.regularizer.flops.FLOPS", "query_weight": 1, "document_weight": 0.5}
TOPICS = {"_target_": "irexp.dataset.irds.IrdsTopics", "dataset_id": "vaswani"}
TUNE = {"_target_": "irexp.stage.tune.tune", "_partial_": True, "sweep": ["index.k1=1"], "measure": "AP"}


def faults(**config: Any) -> list[str]:
    """The faults of a configuration that holds nothing else."""
    return component_faults(OmegaConf.create(config))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"regularizer": FLOPS}, None),
        ({"model": SPLADE}, None),
        ({"model": {**SPLADE, "max_active_dims": None, "pooling": "sum"}}, None),
        ({"index": {**HNSW, "search": SEARCH}}, None),
        ({"regularizer": {"_target_": FLOPS["_target_"], "query_weight": 1}}, "FLOPS needs it"),
        ({"regularizer": {**FLOPS, "rampp": 1}}, "regularizer.rampp: irexp.regularizer.flops.FLOPS has no 'rampp'"),
        ({"model": {**SPLADE, "poling": "max"}}, "did you mean pooling?"),
        ({"model": {**SPLADE, "max_active_dims": "x"}}, "model.max_active_dims: 'x' is not int or null"),
        ({"model": {**SPLADE, "max_active_dims": True}}, "True is not int or null"),
        ({"model": {**SPLADE, "max_active_dims": [1]}}, "[1] is not int or null"),
        ({"model": {**SPLADE, "max_active_dims": {"a": 1}}}, "{'a': 1} is not int or null"),
        ({"model": {**SPLADE, "query_encoding": "lexicl"}}, "; did you mean lexical?"),
        ({"loss": {**LOSS, "_args_": [1]}}, "has no '_args_'"),
        ({"index": {**HNSW, "search": {**SEARCH, "prbes": 1}}}, "index.search.prbes:"),
        ({"loss": {"_target_": "irexp.loss.info_nce.InfoNC"}}, "did you mean irexp.loss.info_nce.InfoNCE?"),
        ({"loss": {"_target_": "irexp.loss.info.InfoNCE"}}, "cannot be found"),
        ({"loss": {"_target_": "InfoNCE"}}, "outside of what a configuration may name"),
        ({"loss": {"_target_": None}}, "outside of what a configuration may name"),
    ],
)
def test_a_component_must_fit_its_constructor(config: dict[str, Any], words: str | None) -> None:
    """A misspelt key, a missing argument and a value of the wrong type are one fault each, and right values none."""
    found = faults(**config)
    assert (found == []) if words is None else (len(found) == 1 and words in found[0]), found


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"dataset": {"test": "dev"}}, "dataset.test: 'dev' stands where"),
        ({"dataset": {"test": "dev"}}, "write 'dataset.test=${dataset.dev}'"),
        ({"dataset": {"documents": "c.jsonl"}}, "a file is named by dataset.documents.path=c.jsonl"),
        (
            {"dataset": {"train": {"_target_": "irexp.dataset.examples.QrelExamples", "topics": "q"}}},
            "train.topics: 'q'",
        ),
        ({"loss": "lce"}, "choose an option of conf/loss"),
        ({"index": 3}, "index: 3 stands where"),
        ({"dataset": {"test": "${dataset.dev}", "dev": TOPICS}}, None),
        ({"re_rank": {"candidates": ["model=bm25"]}}, None),
        ({"re_rank": {"candidates": "their.run"}}, None),
        ({"loss": None}, None),
        ({"optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "betas": [0.9, 0.99]}}, None),
    ],
)
def test_a_text_or_number_in_the_place_of_a_component_is_a_fault(config: dict[str, Any], words: str | None) -> None:
    """It was accepted, and failed hours later where the component was used; a run may be a text, and null is none."""
    found = faults(**config)
    assert (found == []) if words is None else (len(found) == 1 and words in found[0]), found


DENSE = {"_target_": "irexp.model.dense.DenseBiEncoder", "_partial_": True}


@pytest.mark.parametrize(
    ("pooling", "words"),
    [("cls", None), (["cls", "max"], None), (["cls", "maxx"], "is not one of 'mean', 'cls'"), ([1], "is not one of")],
)
def test_the_items_of_a_list_are_checked(pooling: Any, words: str | None) -> None:
    """A wrong item in a list is found like a wrong single value."""
    found = faults(model={**DENSE, "pooling": pooling})
    assert (found == []) if words is None else (len(found) == 1 and words in found[0]), found


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("loss", "torch.load"),
        ("loss", "torch.hub.load"),
        ("loss", "torch.nn.Linear"),
        ("loss", "irexp.index.binary.Binary"),
        ("loss", "lightning.pytorch.utilities.subprocess.call"),
        ("loss", "irexp.loss.loss.check_temperature"),
        ("model", "irexp.backbone.hugging_face.HuggingFaceBackbone"),
        ("backbone", "irexp.model.splade.SPLADE"),
        ("index", "irexp.index.faiss_index.FaissSearch"),
        ("regularizer", "irexp.loss.lce.LCE"),
        ("optimizer", "torch.optim.lr_scheduler.LambdaLR"),
        ("schedule", "math.sqrt"),
        ("schedule", "irexp.stage.verify.verify"),
        ("adapter", "peft.get_peft_model"),
        ("adapter", "peft.IA3Config"),
        ("logger", "irexp.stage.push.push"),
        ("dataset.documents", "irexp.dataset.irds.IrdsTopics"),
        ("dataset.train", "irexp.dataset.irds.IrdsTopics"),
        ("dataset.dev", "irexp.dataset.irds.IrdsDocuments"),
        ("dataset.test", "irexp.dataset.examples.QrelExamples"),
        ("stage.search", "irexp.training.schedule.cosine"),
        ("stage.search", "irexp.stage.sweep.SweepReport"),
        ("stage.search", "irexp.stage.tune.itertools"),
        ("stage.search", "irexp.stage.tune.STAGES"),
        ("stage.search", "irexp.stage.tune.HydraException"),
        ("seed", "irexp.loss.lce.LCE"),
        ("fuse.runs", "irexp.loss.lce.LCE"),
        ("hydra.callbacks.any", "subprocess.call"),
        ("hydra.callbacks.any", "irexp.stage.push.push"),
        ("hydra.launcher", "os.system"),
        ("hydra.launcher", "irexp.stage.sweep.SweepReport"),
        ("hydra.sweeper", "hydra._internal.core_plugins.basic_launcher.BasicLauncher"),
    ],
)
def test_a_target_of_another_kind_is_refused(place: str, target: str) -> None:
    """A function that loads a pickle is not a loss, even though it is in a package whose optimizers are allowed."""
    config = OmegaConf.create()
    OmegaConf.update(config, place, {"_target_": target, "_partial_": True})
    (fault,) = component_faults(config)
    assert fault.startswith(f"{place}._target_: {target} ")


def test_a_nested_component_must_fit_its_parameters_annotation() -> None:
    """An index takes only its own search settings, examples only topics, and a plain parameter no component."""
    other = {"_target_": "irexp.index.binary.BinarySearch"}
    (fault,) = faults(index={**HNSW, "search": other})
    assert fault.startswith("index.search._target_:")
    assert fault.endswith("it must be irexp.index.faiss_index.FaissSearch or a class below it")
    assert faults(dataset={"train": {"_target_": "irexp.dataset.examples.QrelExamples", "topics": TOPICS}}) == []
    (fault,) = faults(dataset={"train": {"_target_": "irexp.dataset.examples.QrelExamples", "topics": LOSS}})
    assert "dataset.train.topics._target_" in fault
    found = faults(index={**HNSW, "factory": LOSS})
    assert any(
        fault.startswith("index.factory._target_: irexp.loss.info_nce.InfoNCE is not allowed here") for fault in found
    )


def test_a_missing_target_is_named() -> None:
    """Of a validation set, whose parts alone would be refused at their places."""
    wanted = "irexp.dataset.validation_set.ValidationSet or a class below it"
    found = faults(validation={"mine": {"topics": TOPICS}})
    assert found == [f"validation.mine: there is no _target_; it must be {wanted}"]


def test_an_interpolation_is_checked_where_it_is_used() -> None:
    """A fault is reported once even if several places use the node, and a resolver's result is checked in full."""
    stage = {"fit": {"_target_": "irexp.stage.fit.fit", "_partial_": True, "loss": "${loss}"}}
    assert faults(loss=LOSS, stage=stage) == []
    assert len(faults(loss={**LOSS, "temprature": 1}, stage=stage)) == 1
    assert len(faults(loss=HNSW, stage=stage)) == 1
    assert faults(loss="${index}", index=HNSW) == [
        f"loss._target_: {HNSW['_target_']} is not allowed here: it must be irexp.loss.loss.Loss or a class below it"
    ]
    (made,) = faults(text="{_target_: os.system}", loss="${oc.create:${text}}")
    assert made.startswith("loss._target_: os.system is outside of what a configuration may name")
    assert faults(loss="${nothing}") == ["loss: Interpolation key 'nothing' not found"]


def test_a_stage_suggests_only_the_keys_of_its_file() -> None:
    """Parameters that the runner passes are neither suggested nor accepted in a configuration."""
    tune = faults(stage={"tune": {**TUNE, "mesure": "AP", "outputt": "x", "output": "y"}})
    assert tune == [
        "stage.tune.mesure: irexp.stage.tune.tune has no 'mesure'; did you mean measure?",
        "stage.tune.outputt: irexp.stage.tune.tune has no 'outputt'; it has sweep, measure",
        "stage.tune.output: irexp.stage.tune.tune has no 'output'; it has sweep, measure",
    ]
