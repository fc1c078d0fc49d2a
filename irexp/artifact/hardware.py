"""What this process may use of its machine: processors, the GPU, memory; learnt without torch."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

#: The folders of the control groups, below the root of the file system.
_GROUPS = Path("sys/fs/cgroup")


def usable_processors(root: Path = Path("/")) -> int:
    """The number of processors that this process may use, at least 1.

    `os.cpu_count()` counts those of the whole machine, of which Slurm, `taskset` and `docker run --cpuset-cpus` give
    some (the affinity), and `docker run --cpus` and Kubernetes so much time (a quota of a control group, rounded up).

    Args:
        root: of the file system.
    """
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, _quotas(root))]))


def return_freed_memory() -> None:
    """Give the system the freed memory that C's allocator keeps; where the C library is not glibc, nothing changes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def usable_gpu(root: Path = Path("/")) -> str | None:
    """The model of the first GPU of `CUDA_VISIBLE_DEVICES`, by the files of NVIDIA's driver; None if there is none.

    Between different models, CUDA numbers the fastest first, which these files do not say, unless
    CUDA_DEVICE_ORDER=PCI_BUS_ID: then it is all of their names and the number.

    Args:
        root: of the file system.
    """
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))  # named by the place on the bus
    cards = [dict(map(_entry, path.read_text(encoding="utf8").splitlines())) for path in files]
    models = [card.get("Model", "unknown") for card in cards]
    every = " or ".join(sorted(set(models)))
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first.startswith("MIG-") and cards:
        return f"a part of {every}"
    if not first.isdecimal():  # an identifier, which may be abbreviated; "" and -1 hide all GPUs
        return next((card.get("Model") for card in cards if first and card.get("GPU UUID", "").startswith(first)), None)
    if int(first) >= len(cards):
        return None
    is_ordered = len(set(models)) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return models[int(first)] if is_ordered else f"{every}, number {first}"


def _entry(line: str) -> tuple[str, str]:
    """The name and the value of a line such as `Model: NVIDIA H200`."""
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _quotas(root: Path) -> Iterator[float]:
    """The processors' worth of time that each control group of this process has, and each that contains it.

    A container may see its own group as the root of all, so that the path of its group leads nowhere.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            if not controllers:  # version 2: "max 100000", or microseconds of all in how many
                words = [word for limit in _lines(root / _GROUPS / group / "cpu.max") for word in limit.split()]
            elif "cpu" in controllers.split(","):  # version 1: -1, or the same in two files
                folder = root / _GROUPS / controllers / group
                words = [word for name in ("quota", "period") for word in _lines(folder / f"cpu.cfs_{name}_us")]
            else:
                continue
            if len(words) == 2 and words[0].isdecimal():
                yield int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    """The lines of a file; none if it does not exist."""
    return path.read_text(encoding="utf8").splitlines() if path.is_file() else []
