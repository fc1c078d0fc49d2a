"""The ir_metadata of a run: how it was made, in the components of PRIMAD, as a YAML file beside it.

The run file itself stays as it is. repro_eval's MetadataHandler, or sed as in the README, puts this file in front of
the run as comments, which `irexp.evaluation.run_file` skips.

Source: Breuer, Keller and Schaer 2022, arXiv:2207.08922; https://www.ir-metadata.org, schema 0.1.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

#: What is appended to the name of a run file.
SUFFIX = ".ir_metadata.yml"

#: The lines around the metadata in a run file.
START, END = "# ir_metadata.start", "# ir_metadata.end"


def ir_metadata(provenance: Mapping[str, Any], *, tag: str, name: str) -> dict[str, Any]:
    """The metadata of a run.

    Args:
        provenance: what the manifest of the run records.
        tag: the last column of the run file.
        name: the identifier of the run.
    """
    configuration = provenance["configuration"]
    known: dict[str, Any] = _without_none(
        {
            "schema version": "0.1",
            "tag": tag,
            "platform": _platform(provenance),
            "implementation": {
                "executable": {"cmd": " ".join(provenance["command"])},
                "source": {"lang": ["python"], "commit": provenance["git"].get("commit")},
                "uncommitted changes": provenance["git"].get("dirty"),
            },
            "resources": {
                "runtime": {"wallclock": f"{provenance['seconds']} s"},
                "ram": {"peak of process": f"{provenance['peak_memory_mib']} MiB"},
                **({"measured by tirex-tracker": provenance["resources"]} if provenance.get("resources") else {}),
            },
            "research goal": {
                "evaluation": {
                    "reported measures": list(configuration["evaluation"]["measures"]),
                    "significance test": [
                        {
                            "name": configuration["evaluation"]["significance"],
                            "correction method": configuration["evaluation"]["correction"],
                        }
                    ],
                }
            },
            "method": _method(configuration, name),
            "data": _data(configuration, provenance["given"]),
        }
    )
    return known


def write_ir_metadata(run: Path, provenance: Mapping[str, Any], *, tag: str, name: str) -> None:
    """Write the metadata of a run beside its file."""
    text = yaml.safe_dump(ir_metadata(provenance, tag=tag, name=name), sort_keys=False, width=4096)
    run.with_name(run.name + SUFFIX).write_text(text, encoding="utf8")


def _platform(provenance: Mapping[str, Any]) -> dict[str, Any]:
    hardware, versions = provenance["hardware"], provenance["versions"]
    gpus = hardware["gpus"]
    return {
        "hardware": {
            "cpu": {
                "model": hardware["processor"],
                "architecture": platform.machine(),
                "number of cores": hardware["cores"],
            },
            "gpu": {"model": gpus[0], "number": len(gpus)} if gpus else None,
            "ram": f"{hardware['memory_gib']} GiB",
        },
        "operating system": {"kernel": platform.release(), "distribution": hardware["system"]},
        "software": {"libraries": {"python": [f"{name}=={version}" for name, version in versions.items()]}},
    }


def _method(configuration: Mapping[str, Any], name: str) -> dict[str, Any]:
    model, index = configuration["model"], configuration.get("index") or {}
    candidates = (configuration.get("re_rank") or {}).get("candidates")
    fused = (configuration.get("fuse") or {}).get("runs")
    checkpoint = None if fused else configuration["artifact"].get("checkpoint")
    retrieval = {
        "name": name,
        "method": f"{configuration['fuse']['method']} fusion" if fused else str(model["name"]),
        "index": str(index["_target_"]).rpartition(".")[2]
        if "_target_" in index and not (candidates or fused)
        else None,
        "checkpoint": os.path.basename(checkpoint) if checkpoint and os.path.isabs(checkpoint) else checkpoint,
        "reranks": _candidates(candidates),
        "interpolates": [" ".join(run) if isinstance(run, list) else run for run in fused] if fused else None,
    }
    return {
        "automatic": True,
        "score ties": "document id, ascending",
        "seed": configuration["seed"],
        "retrieval": [retrieval],
    }


def _candidates(entry: Any) -> str | None:
    """What is re-ranked: another run by its overrides or its file, or what a collection of ir_datasets ships."""
    if isinstance(entry, Mapping):
        return f"scoreddocs of {entry['dataset_id']}" if entry.get("dataset_id") else str(entry["_target_"])
    return " ".join(entry) if isinstance(entry, list) else entry


def _data(configuration: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The collection, and what the checkpoint was trained on if this experiment did it; of others it is not known."""
    dataset = configuration["dataset"]
    is_fused = (configuration.get("fuse") or {}).get("runs")
    has_own = configuration["artifact"].get("checkpoint") is not None and "checkpoint" not in given and not is_fused
    is_trained = has_own and configuration["training"]["steps"] != 0 and dataset.get("train") is not None
    return {
        "test collection": {
            "name": dataset["name"],
            "ir_datasets": dataset.get("id"),
            "path": os.path.basename(str(dataset["path"])) if dataset.get("path") else None,
        },
        "training data": [{"name": dataset["name"]}] if is_trained else None,
    }


def _without_none(value: Any) -> Any:
    """The same without keys whose value is unknown."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
