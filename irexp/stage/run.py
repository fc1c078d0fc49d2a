"""The file of a run: in an artifact's folder, or a given file."""

from pathlib import Path

#: The run file within a run's folder.
RUN = "test.run"


def run_file(run: Path) -> Path:
    """The file of a run, from its folder or the file itself."""
    return run / RUN if run.is_dir() else run
