"""The energy and the load of a stage, as measured by tirex-tracker, wherever that package is installed."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

#: What is measured, by the tracker's names. Its measures of git are left out: they archive the current folder.
MEASURES = (
    *("TIME_ELAPSED_USER_MS", "TIME_ELAPSED_SYSTEM_MS", "CPU_USED_PROCESS_PERCENT", "CPU_ENERGY_SYSTEM_JOULES"),
    *("RAM_USED_PROCESS_KB", "RAM_ENERGY_SYSTEM_JOULES", "GPU_MODEL_NAME", "GPU_USED_PROCESS_PERCENT"),
    *("GPU_VRAM_USED_PROCESS_MB", "GPU_ENERGY_SYSTEM_JOULES"),
)

#: Milliseconds between two looks at the machine.
_INTERVAL = 1000


@contextmanager
def measured_resources() -> Iterator[dict[str, Any]]:
    """Measure the block; the dictionary is filled when it ends, and stays empty without tirex-tracker.

    Numbers that change have their average and maximum. What the machine does not tell, such as the energy in most
    virtual machines, is absent.
    """
    found: dict[str, Any] = {}
    if importlib.util.find_spec("tirex_tracker") is None:
        yield found
        return
    import tirex_tracker

    handle = tirex_tracker.start_tracking(
        [tirex_tracker.Measure[name] for name in MEASURES], poll_intervall_ms=_INTERVAL, track_subprocesses=True
    )
    try:
        yield found
    finally:
        try:
            results = tirex_tracker.stop_tracking(handle)
        except Exception as error:  # the stage has ended, and hours of work must not be lost with its measurements
            log.warning("tirex-tracker could not measure this stage: %s", error)
            results = {}
        for measure, entry in results.items():
            if (value := _plain(entry.value)) is not None:
                found[measure.name.lower()] = value


def _plain(value: bytes | str) -> Any:
    """A number, a text, or the average and maximum of a series; None for what was not measured."""
    text = value.decode() if isinstance(value, bytes) else value
    try:
        found = json.loads(text)
    except ValueError:
        return text or None
    return {name: found[name] for name in ("avg", "max")} if isinstance(found, dict) else found
