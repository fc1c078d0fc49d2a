"""How an artifact was made: code, versions, hardware, command. None of it enters an identity."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: The packages whose version may change a number.
PACKAGES = (
    *("irexp", "torch", "lightning", "transformers", "tokenizers", "safetensors", "numpy", "scipy"),
    *("faiss-cpu", "faiss-gpu-cu12", "bm25s", "PyStemmer", "ir_datasets", "ir_measures", "hydra-core", "omegaconf"),
    *("numba", "peft", "pyseismic-lsr"),
)


#: What is asked of git: changes of the code and the configuration, not of texts and results beside them.
_CHANGES = ("--porcelain", "--untracked-files=no", "--", ":/irexp", ":/conf", ":/run.py")


def provenance(
    *, overrides: list[str], options: dict[str, str], configuration: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """A record of the current process.

    Args:
        overrides: the overrides typed after `run.py`.
        options: the chosen option of each configuration group.
        configuration: the composed configuration, resolved except for what is taken from the environment.
        seconds: how long the stage took.
    """
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "overrides": overrides,
        "options": options,
        "configuration": configuration,
        "seed": configuration.get("seed"),
        "git": git_state(Path(__file__).parent),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def git_state(folder: Path) -> dict[str, Any]:
    """The commit of the code and whether it was changed since; empty outside a checkout or without git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", *_CHANGES))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def versions() -> dict[str, str]:
    """The installed versions of the packages that may change a number."""
    found = {}
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
