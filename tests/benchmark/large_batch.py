"""Peak memory and seconds of a training step on the embedded default, by batch size and chunk size.

    python tests/benchmark/large_batch.py [MODEL] [BATCH CHUNK] …

Each pair is a training of one step in a process of its own; CHUNK 0 encodes the whole batch at once. The peak is that
of the whole process.
"""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
import time

from irexp.dataset.aws_howto import AwsHowtoDocuments, AwsHowtoTopics
from irexp.dataset.examples import QrelExamples

log = logging.getLogger(__name__)

#: Batch size and chunk size: the default, and GradCache on as many and on 256 times as many queries.
_PAIRS = ("32", "0", "32", "16", "8192", "64")


def train_once(name: str, batch_size: int, chunk_size: int) -> None:
    """Log the peak memory and the seconds of one training step."""
    from irexp import component, fit, new_model

    backbone = component("backbone", "splade_tiny")
    model = new_model(name, backbone=backbone, query_length=24, document_length=80)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    fit(
        model,
        component("loss", "info_nce" if name == "sbert" else "info_nce_dot"),
        QrelExamples(AwsHowtoTopics("train")),
        AwsHowtoDocuments(),
        steps=1,
        learning_rate=1e-4,
        batch_size=batch_size,
        training={"chunk_size": chunk_size or None},
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log.info(
        "%s batch %d chunk %d: %.2f GB, %.2f GB before the training, %.0f s",
        *(name, batch_size, chunk_size, peak / 2**20, before / 2**20, seconds),
    )


def main() -> None:
    """Run each pair in its own process."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    match sys.argv[1:]:
        case ["one", name, batch_size, chunk_size]:
            train_once(name, int(batch_size), int(chunk_size))
        case given:
            name, pairs = (given[0], given[1:] or list(_PAIRS)) if given else ("sbert", list(_PAIRS))
            for pair in zip(pairs[::2], pairs[1::2], strict=True):
                subprocess.run([sys.executable, __file__, "one", name, *pair], check=True)


if __name__ == "__main__":
    main()
