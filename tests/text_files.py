"""Files that a test writes, compressed or not."""

from __future__ import annotations

import gzip
from pathlib import Path


def write(path: Path, text: str) -> str:
    """Write a file, gzip-compressed if its name ends in .gz."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_bytes(text.encode())
    return str(path)
