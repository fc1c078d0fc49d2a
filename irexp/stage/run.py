"""Where a run's file lies, in an artifact or as one from elsewhere."""

from pathlib import Path

#: The run file within a run's folder.
RUN = "test.run"


def run_file(run: Path) -> Path:
    """The file of a run."""
    return run / RUN if run.is_dir() else run
