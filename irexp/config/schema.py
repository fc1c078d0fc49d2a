"""The typed records of the configuration: plain values, checked and converted when a configuration is composed.

A component (a node with `_target_`) is `Any` here: its constructor is its schema, see `irexp.config.check`.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf


@dataclass
class Dataset:
    """A collection: documents, what is learned from, what is searched for."""

    name: str = MISSING
    """What tables and folders call it."""
    path: str | None = None
    """The folder of a local collection."""
    id: str | None = None
    """The id of a collection of ir_datasets."""
    query_length: int | None = None
    """Tokens of a query that are read; null: as the checkpoint says."""
    document_length: int | None = None
    """Tokens of a document that are read; null: as the checkpoint says."""
    documents: Any = MISSING
    train: Any = None
    dev: Any = None
    test: Any = None


@dataclass
class Training:
    """How a checkpoint is trained; part of its identity."""

    steps: int | None = 400
    """Optimizer steps; this or `epochs`, the other null."""
    epochs: int | None = None
    batch_size: int = 32
    """Queries an optimizer step, over all devices and accumulated batches."""
    accumulate_batches: int = 1
    """Batches an optimizer step; in-batch negatives come from one of them."""
    learning_rate: float = 3e-4
    clip_norm: float | None = 1.0
    precision: str = "32-true"
    """32-true, bf16-mixed or 16-mixed."""
    validate_every: int | None = 100
    """Optimizer steps between validations by retrieval; null: none, and the last weights are kept."""
    validation_documents: int | None = 2000
    """Documents that validation searches: the relevant ones and a random sample; null: the whole collection."""
    validation_queries: int | None = None
    select_by: str = "nDCG@10"
    """The measure by which the best checkpoint is chosen."""
    patience: int | None = None
    """Validations without a better result before training stops; null: never."""


@dataclass
class Encoding:
    """How documents are encoded; part of the encoding's identity, so that index settings share one encoding."""

    dtype: str = "float32"
    """float32 or float16, on disk."""
    precision: str = "float32"
    """float32 or bfloat16, of the computation."""


@dataclass
class Search:
    """What a run holds."""

    depth: int = 100
    """Documents a query."""
    remove_query: bool = False
    """Whether to leave out the document whose id is the query's, as BEIR does."""


@dataclass
class Evaluation:
    """What is measured and how rows are compared."""

    measures: list[str] = field(default_factory=lambda: ["nDCG@10", "RR@10", "R@100"])
    """As ir_measures writes them."""
    significance: str = "t"
    """The paired test: t or randomisation."""
    permutations: int = 10_000
    correction: str = "holm"
    """For the comparisons of one measure: holm, bonferroni or none."""
    alpha: float = 0.05


@dataclass
class Machine:
    """Where it runs: part of no identity."""

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    threads: int | None = None
    """Of torch, faiss and the tokenizer; null: all cores but one."""
    num_workers: int = 0
    """Processes that tokenize training batches."""
    token_budget: int = 8192
    """Tokens, padding included, that are encoded at once."""
    shard_size: int = 65_536
    """Documents a shard of an encoding: what a kill can lose."""
    query_batch: int = 256
    """Queries that are searched at once."""
    resume_every: int = 100
    """Optimizer steps between the checkpoints from which a killed training goes on."""
    progress: bool = True


@dataclass
class Artifact:
    """Identifiers, each a digest of what determines the content; or a path or hub name of something from elsewhere."""

    checkpoint: str | None = "${artifact:checkpoint}"
    encoding: str | None = "${artifact:encoding}"
    index: str | None = "${artifact:index}"
    run: str | None = "${artifact:run}"
    measures: str | None = "${artifact:measures}"


@dataclass
class Paths:
    """Where files go: part of no identity."""

    artifacts: str = "artifacts"


@dataclass
class Config:
    """The whole configuration."""

    seed: int = 42
    dataset: Dataset = field(default_factory=Dataset)
    training: Training = field(default_factory=Training)
    encoding: Encoding = field(default_factory=Encoding)
    search: Search = field(default_factory=Search)
    evaluation: Evaluation = field(default_factory=Evaluation)
    machine: Machine = field(default_factory=Machine)
    artifact: Artifact = field(default_factory=Artifact)
    paths: Paths = field(default_factory=Paths)
    backbone: Any = None
    index: Any = None
    loss: Any = None
    model: Any = MISSING
    optimizer: Any = None
    schedule: Any = None
    logger: Any = None
    baselines: list[list[str]] = field(default_factory=list)
    """Overrides of the experiments that stand above this one in its table; the first is what all are tested against."""
    stage: Any = None


RECORDS: dict[str, type] = {
    "dataset": Dataset,
    "training": Training,
    "encoding": Encoding,
    "search": Search,
    "evaluation": Evaluation,
    "machine": Machine,
    "artifact": Artifact,
    "paths": Paths,
}


def register_schema(*, typed: bool = True) -> None:
    """Store the schema under the name that `conf/config.yaml` lists first.

    Args:
        typed: False stores the same defaults without types, so that a faulty configuration composes and
            `irexp.config.check` can name every fault rather than the first.
    """
    node = OmegaConf.structured(Config)
    if not typed:
        node = _untyped(node)
    ConfigStore.instance().store(name="schema", node=node)


def _untyped(node: DictConfig) -> DictConfig:
    plain = OmegaConf.create(OmegaConf.to_container(node, resolve=False))
    assert isinstance(plain, DictConfig)
    return plain
