"""The collection that chains of stages are run over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chains import TEXTS


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout; two test queries, one of which asks for a document that is not there."""
    folder = tmp_path / "toys"
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d{number}", "text": text}) for number, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "d0", "text": "make cups"}\n{"_id": "q2", "text": "zzz"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td0\t1\nd0\td3\t1\nq2\tgone\t1\n")
    return folder
