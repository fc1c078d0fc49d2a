"""The search of a sweep, as its page shows it, from the record that hydra/sweeper=optuna writes."""

from __future__ import annotations

import json
from pathlib import Path

from irexp.report_page.study import Study, Trial
from irexp.study.results import RECORD


def find_study(folder: Path) -> Study | None:
    """The search whose record is in a sweep's folder; None if there is none."""
    if not (folder / RECORD).is_file():
        return None
    found = json.loads((folder / RECORD).read_text(encoding="utf8"))
    trials = [
        Trial(
            one["trial"],
            one["state"],
            tuple(one["values"]) if one["values"] is not None else None,
            one["seconds"],
            one["settings"],
        )
        for one in found["trials"]
    ]
    return Study(
        tuple(found["objectives"]),
        tuple(found["directions"]),
        tuple(trials),
        found["importance"],
        tuple((one["values"], one["command"]) for one in found["best"]),
    )
