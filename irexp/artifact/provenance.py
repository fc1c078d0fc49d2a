"""How an artifact was made: code, versions, hardware, command. None of it enters an identity."""

import functools
import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from irexp.artifact.git import own_state

#: The packages whose version may change a number.
PACKAGES = (
    *("irexp", "torch", "lightning", "transformers", "tokenizers", "safetensors", "numpy", "scipy"),
    *("faiss-cpu", "faiss-gpu-cu12", "bm25s", "PyStemmer", "ir_datasets", "ir_measures", "hydra-core", "omegaconf"),
    *("numba", "peft", "pyseismic-lsr", "pymilvus", "milvus-lite"),
)


#: Variables of the environment that may change a number.
_VARIABLES = ("PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def provenance(
    *,
    overrides: list[str],
    options: dict[str, str],
    configuration: dict[str, Any],
    seconds: float,
    output: Path,
    resources: dict[str, Any],
) -> dict[str, Any]:
    """A record of the current process.

    Args:
        overrides: the overrides typed after `run.py`.
        options: the chosen option of each configuration group.
        configuration: the composed configuration, resolved except for texts from the environment.
        seconds: how long the stage took.
        output: the job's folder, which has its log, and the patch if the code was changed since its commit.
        resources: the energy and load of the stage, if they were measured.
    """
    state = own_state()
    return {
        # tables are sorted by it, and stages may take milliseconds
        "finished": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **({"resources": resources} if resources else {}),
        "output": str(output),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "overrides": overrides,
        "options": options,
        "configuration": configuration,
        "seed": configuration.get("seed"),
        "determinism": determinism(),
        "git": state.recorded() if state else {},
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def determinism() -> dict[str, Any]:
    """The settings that decide whether the same computation gives the same bits; torch's if it is imported."""
    found: dict[str, Any] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    if torch := sys.modules.get("torch"):
        found |= {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "threads": torch.get_num_threads(),
            "cuda": torch.version.cuda,
        }
    return found


@functools.cache
def versions() -> Mapping[str, str]:
    """The installed versions of the packages that may change a number."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional package that is not installed was not used
    return found


def hardware() -> dict[str, Any]:
    """Host, processor, memory, and the GPUs if torch is already imported."""
    torch = sys.modules.get("torch")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
    }


def processor() -> str:
    """The model of this machine's processor."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
