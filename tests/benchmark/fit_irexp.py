"""A training in irexp for `tests.benchmark.fit_peers`."""

from __future__ import annotations

from pathlib import Path

import torch

from irexp import component, fit, load, save
from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.dataset.examples import QrelExamples
from irexp.model.bi_encoder import BiEncoder
from tests.benchmark.fit_job import CLIP_NORM, WEIGHT_DECAY, Job


def train(job: Job, folder: Path) -> float:
    """Train, save, and return the loss of the probe before."""
    model, probe = load(job.initial), job.probe()
    assert isinstance(model, BiEncoder)
    loss = component("loss", "info_nce", temperature=job.temperature)
    with torch.no_grad():
        query_ids = model.tokenize_queries([row["query"] for row in probe])
        document_ids = model.tokenize_documents([row["document"] for row in probe])
        queries = model.encode_queries(model.pad(query_ids, is_query=True))
        documents = model.encode_documents(model.pad(document_ids, is_query=False))
        found = float(loss(model.similarity(queries, documents)[0], torch.eye(len(probe))))
    weights = {"query_weight": job.query_weight, "document_weight": job.document_weight, "ramp": job.ramp}
    fit(
        model,
        loss,
        QrelExamples(AwsHowtoTopics("train")),
        AwsHowtoDocuments(),
        steps=job.steps,
        learning_rate=job.learning_rate,
        batch_size=job.batch_size,
        regularizer=component("regularizer", "flops", **weights) if job.query_weight else None,
        optimizer=component("optimizer", weight_decay=WEIGHT_DECAY, **job.optimizer),
        schedule=component("schedule", "linear_warmup", warmup=job.warm_up),
        training={"clip_norm": CLIP_NORM, **job.training},
        machine=component("machine", "cpu", threads=1, progress=False, resume_every=job.steps + 1, **job.machine),
        seed=job.seed,
    )
    save(model, folder)
    return found
