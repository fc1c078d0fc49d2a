"""A process uses as many processors as it may, not as many as the machine has, and knows its GPU without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from irexp.artifact.hardware import usable_gpu, usable_processors

ROOT = Path(__file__).parents[2]

#: The only files of irexp that may ask for all processors of the machine: this function, and the record of hardware.
_ASK_FOR_ALL = {"irexp/artifact/hardware.py", "irexp/artifact/provenance.py"}

_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process may use")


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files below the root of a file system."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def of_128(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 128 processors, of which this process may use 8."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@_linux
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/job\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
    ],
)
def test_affinity_and_quotas_limit_the_processors(
    tmp_path: Path, of_128: None, files: dict[str, str], expected: int
) -> None:
    """Of the affinity and the quotas of all control groups the smallest counts; a part of a processor is one."""
    write(tmp_path, files)
    assert usable_processors(tmp_path) == expected


@_linux
def test_a_process_that_is_bound_to_one_processor_uses_one() -> None:
    """As `taskset -c 0` binds it."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from irexp.artifact.hardware import usable_processors; print(usable_processors())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_nothing_else_asks_for_the_processors_of_the_whole_machine() -> None:
    """A new worker pool would start 128 workers for 8 processors."""
    files = [path for folder in ("irexp", "hydra_plugins") for path in (ROOT / folder).rglob("*.py")]
    asking = re.compile(r"\bcpu_count\(")
    found = {path.relative_to(ROOT).as_posix() for path in files if asking.search(path.read_text(encoding="utf8"))}
    assert len(files) > 200 and found == _ASK_FOR_ALL


def cards(*models: str) -> dict[str, str]:
    """The files of NVIDIA's driver, in the order of the bus; the first is GPU-0a, the second GPU-1a."""
    return {
        f"proc/driver/nvidia/gpus/0000:{number}b:00.0/information": f"Model: \t\t {model}\nIRQ:   \t\t 32\n"
        f"GPU UUID: \t GPU-{number}a\nBus Location: \t 0000:{number}b:00.0\n"
        for number, model in enumerate(models)
    }


@pytest.mark.parametrize(
    ("models", "visible", "expected"),
    [
        ([], None, None),
        (["NVIDIA H200"], None, "NVIDIA H200"),
        (["NVIDIA H200"], "", None),
        (["NVIDIA H200"], "-1", None),
        (["NVIDIA H200"], "1", None),
        (["NVIDIA H200", "NVIDIA H200"], "1,0", "NVIDIA H200"),
        (["Tesla T4", "NVIDIA A100"], "GPU-1", "NVIDIA A100"),
        (["Tesla T4", "NVIDIA A100"], "GPU-2", None),
        (["Tesla T4", "NVIDIA A100"], "1", "NVIDIA A100 or Tesla T4, number 1"),
        (["NVIDIA H200"], "MIG-12", "a part of NVIDIA H200"),
    ],
)
def test_the_driver_names_the_first_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: list[str], visible: str | None, expected: str | None
) -> None:
    """Of those that CUDA_VISIBLE_DEVICES leaves."""
    write(tmp_path, cards(*models))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert usable_gpu(tmp_path) == expected


def test_the_place_on_the_bus_numbers_different_gpus_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA_DEVICE_ORDER=PCI_BUS_ID; otherwise CUDA puts the fastest first."""
    write(tmp_path, cards("Tesla T4", "NVIDIA A100"))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert usable_gpu(tmp_path) == "Tesla T4"
