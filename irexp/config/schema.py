"""The typed records of the configuration: its plain values. Their defaults, units and reasons are in conf/.

A component (a node with `_target_`) is `Any` here: its constructor is its schema, see `irexp.config.check`.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from irexp.config.remembered import remember
from irexp.config.several_losses import register_several_losses


@dataclass
class Dataset:
    """A collection: documents, training examples, development and test queries; conf/dataset."""

    name: str
    documents: Any
    path: str | None = None
    id: str | None = None
    query_length: int | None = None
    document_length: int | None = None
    train: Any = None
    dev: Any = None
    test: Any = None


@dataclass
class Training:
    """How a checkpoint is trained; part of its identity. Units and reasons are in conf/training."""

    steps: int | None
    epochs: int | None
    batch_size: int
    accumulate_batches: int
    learning_rate: float
    clip_norm: float | None
    precision: str
    validate_every: int | None
    validation_documents: int | None
    validation_depth: int
    validation_queries: int | None
    select_by: str
    patience: int | None
    chunk_size: int | None = None
    length_buckets: int | None = None
    head_learning_rate: float | None = None
    layer_decay: float | None = None
    frozen_layers: int | None = None
    ema_decay: float | None = None
    validation_measures: list[str] | None = None
    quantization: str | None = None


@dataclass
class Negatives:
    """The negative documents of the training queries; conf/negatives."""

    candidates: Any
    depth: int | None
    count: int | None
    sampler: str | None = None
    skip: int | None = None
    scores: Any = None
    min_score: float | None = None
    max_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    keep: int | None = None
    keep_by: str = "top"


@dataclass
class FalseNegatives:
    """Documents that are left out as negatives, since they may be relevant; conf/false_negatives."""

    same_text: bool | None = None
    margin: float | None = None
    relative_margin: float | None = None
    guide: Any = None


@dataclass
class Teacher:
    """The teacher whose scores are the targets of training, if any; conf/teacher."""

    scores: Any


@dataclass
class Score:
    """What stage=score scores besides the documents of the training examples, and how; conf/score."""

    candidates: Any
    depth: int | None
    precision: str = "float32"


@dataclass
class ReRank:
    """The run that is re-ranked, if any, and how; conf/re_rank."""

    candidates: Any
    depth: int | None
    precision: str = "float32"


@dataclass
class Fuse:
    """The runs that are fused, if any, and how; conf/fuse."""

    runs: Any
    dev_runs: Any
    method: str
    norm: str
    weights: Any
    k: int
    depth: int
    measure: str
    step: float


@dataclass
class Encoding:
    """How documents are encoded; part of the encoding's identity; conf/encoding."""

    dtype: str
    precision: str


@dataclass
class Search:
    """The documents that a run holds per query; conf/search."""

    depth: int
    remove_query: bool
    exclude_path: str | None


@dataclass
class Evaluation:
    """The measures, and the significance tests between rows; conf/evaluation."""

    measures: list[str]
    significance: str
    permutations: int
    correction: str
    alpha: float


@dataclass
class Machine:
    """Where a job runs; not part of an identity. Units are in conf/machine."""

    accelerator: str
    devices: int
    num_nodes: int
    strategy: str
    threads: int | None
    num_workers: int
    token_budget: int | None
    shard_size: int
    query_batch: int
    resume_every: int
    progress: bool
    gradient_checkpointing: bool = False
    compile: bool = False
    forward_tokens: int | None = None


@dataclass
class Artifact:
    """Where each artifact comes from, and the checkpoint that training starts from.

    `own`: this experiment makes it. null: it has none. Otherwise a given one: an identifier, a path or a hub name.
    """

    checkpoint: str | None = "own"
    encoding: str | None = "own"
    index: str | None = "own"
    run: str | None = "own"
    initial: Any = None
    """The checkpoint, of any layout, whose weights and settings training starts from, or the overrides of the
    experiment that trains it, such as [model=sbert]; null: the backbone's."""


@dataclass
class Paths:
    """Where files go; not part of an identity; conf/paths."""

    artifacts: str


@dataclass
class RayResources:
    """What a task of a Ray cluster asks for; conf/hydra/launcher/ray.yaml."""

    cpus: int
    gpus: int | None
    """null: machine.devices if a node has a GPU, else none."""
    gigabytes: float | None
    """null: as much as the node has."""


@dataclass
class Resources:
    """What a job of a Slurm cluster asks for; conf/hydra/launcher/slurm.yaml."""

    minutes: int
    memory: str
    gpus: int
    cpus: int
    partition: str | None
    extra: dict[str, Any]
    """Further options of sbatch, by name."""


@dataclass
class Config:
    """The whole configuration; conf/config.yaml."""

    seed: int
    dataset: Dataset
    training: Training
    negatives: Negatives
    false_negatives: FalseNegatives
    teacher: Teacher
    score: Score
    encoding: Encoding
    search: Search
    re_rank: ReRank
    fuse: Fuse
    evaluation: Evaluation
    machine: Machine
    paths: Paths
    model: Any
    artifact: Artifact = field(default_factory=Artifact)
    backbone: Any = None
    index: Any = None
    loss: Any = None
    regularizer: Any = None
    adapter: Any = None
    optimizer: Any = None
    schedule: Any = None
    validation: Any = None
    """Further sets of queries that a training is validated on, by name."""
    logger: Any = None
    baselines: list[list[str]] = field(default_factory=list)
    """Overrides of the rows above this experiment in its table."""
    rows: Any = None
    """The table's rows by name, instead of the baselines and this experiment: each one's overrides of it."""
    columns: Any = None
    """The table's collections by name: overrides of each row; none: this experiment's collection."""
    against: Any = None
    """For rows by name, the row that they are tested against; the others are tested against the first."""
    mean: bool = False
    """Whether the table's last columns are the means over its collections."""
    objective: list[str] | None = None
    """The measures that a job returns to a sweeper; null: the first that it measures, see irexp.artifact.objective."""
    stage: Any = None
    force: list[str] = field(default_factory=list)
    """Stages whose artifacts are made again even if they exist; the old ones are kept until the new are complete."""
    dry_run: bool = False
    """Whether to print the plan and make nothing."""
    confirm: bool = False
    """Whether stage=clean removes what it lists."""


RECORDS: dict[str, type] = {
    "dataset": Dataset,
    "training": Training,
    "negatives": Negatives,
    "false_negatives": FalseNegatives,
    "teacher": Teacher,
    "score": Score,
    "re_rank": ReRank,
    "fuse": Fuse,
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
    register_several_losses()
    remember()
    node = OmegaConf.structured(Config)
    if not typed:
        node = _untyped(node)
    ConfigStore.instance().store(name="schema", node=node)


def _untyped(node: DictConfig) -> DictConfig:
    untyped = OmegaConf.create(OmegaConf.to_container(node, resolve=False))
    assert isinstance(untyped, DictConfig)
    return untyped
