"""The values that the configuration's plain keys may have; see `irexp.config.schema` for the keys."""

import math

#: The precisions of a computation outside of training.
COMPUTED = ("float32", "bfloat16", "int8")

#: The choices of a plain value, besides null where its type allows it.
CHOICES: dict[str, tuple[str, ...]] = {
    "training.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "training.quantization": ("4bit",),
    "negatives.sampler": ("random", "top", "log_random", "single_relevant", "top_and_random"),
    "negatives.keep_by": ("top", "random"),
    "fuse.method": ("rrf", "sum", "mnz", "wsum"),
    "fuse.norm": ("min-max", "zmuv", "none"),
    "encoding.dtype": ("float32", "float16"),
    "encoding.precision": COMPUTED,
    "re_rank.precision": COMPUTED,
    "score.precision": COMPUTED,
    "evaluation.significance": ("t", "wilcoxon", "randomisation"),
    "evaluation.correction": ("holm", "bonferroni", "none"),
    "machine.accelerator": ("auto", "cpu", "gpu", "mps"),
    "machine.strategy": ("auto", "ddp_spawn", "fsdp", "deepspeed", "deepspeed_stage_3"),
}

#: The smallest and the largest number that a plain value may be; None: no largest. Null is always allowed.
RANGES: dict[str, tuple[float, float | None]] = {
    "seed": (0, 2**32 - 1),
    "dataset.query_length": (1, None),
    "dataset.document_length": (1, None),
    "training.steps": (0, None),
    "training.epochs": (1, None),
    "training.batch_size": (1, None),
    "training.accumulate_batches": (1, None),
    "training.learning_rate": (0, None),
    "training.clip_norm": (0, None),
    "training.validate_every": (1, None),
    "training.validation_documents": (1, None),
    "training.validation_depth": (1, None),
    "training.validation_queries": (1, None),
    "training.patience": (1, None),
    "training.chunk_size": (1, None),
    "training.length_buckets": (1, None),
    "training.head_learning_rate": (0, None),
    "training.layer_decay": (0, 1),
    "training.frozen_layers": (0, None),
    "training.ema_decay": (0, 1),
    "negatives.depth": (1, None),
    "negatives.count": (1, None),
    "negatives.skip": (0, None),
    "negatives.min_score": (-math.inf, None),
    "negatives.max_score": (-math.inf, None),
    "negatives.absolute_margin": (0, None),
    "negatives.relative_margin": (0, None),
    "negatives.keep": (1, None),
    "score.depth": (1, None),
    "false_negatives.margin": (-math.inf, None),
    "false_negatives.relative_margin": (-math.inf, None),
    "re_rank.depth": (1, None),
    "fuse.k": (0, None),
    "fuse.depth": (1, None),
    "fuse.step": (0.001, 1),
    "hydra.launcher.workers": (1, None),
    "hydra.launcher.shares": (1, None),
    "hydra.launcher.seconds": (1, None),
    "hydra.launcher.retries": (0, None),
    "hydra.launcher.default.minutes": (1, None),
    "hydra.launcher.default.gpus": (0, None),
    "hydra.launcher.default.cpus": (1, None),
    "hydra.launcher.default.gigabytes": (0.1, None),
    "search.depth": (1, None),
    "evaluation.permutations": (1, None),
    "evaluation.alpha": (0, 1),
    "machine.devices": (1, None),
    "machine.num_nodes": (1, None),
    "machine.threads": (1, None),
    "machine.num_workers": (0, None),
    "machine.token_budget": (1, None),
    "machine.forward_tokens": (1, None),
    "machine.shard_size": (1, None),
    "machine.query_batch": (1, None),
    "machine.resume_every": (1, None),
}

#: The same for arguments that are used long after a job began; engines, losses and regularizers check their own.
ARGUMENT_RANGES: dict[str, tuple[float, float | None]] = {
    "schedule.warmup": (0, None),
    "schedule.cycles": (1, None),
    "optimizer.weight_decay": (0, None),
    "optimizer.eps": (0, None),
    "adapter.r": (1, None),
    "adapter.lora_alpha": (1, None),
    "adapter.lora_dropout": (0, 0.99),
    "model.dim": (1, None),
    "model.projection_dim": (1, None),
    "model.token_dim": (1, None),
    "model.cls_dim": (0, None),
    "model.truncate_dim": (1, None),
    "model.viewers": (1, None),
    "model.k_train": (1, None),
    "model.labels": (1, None),
}

#: The keys whose value names one or more measures.
MEASURES = (
    *("evaluation.measures", "training.select_by", "training.validation_measures", "fuse.measure"),
    "stage.tune.measure",
)
