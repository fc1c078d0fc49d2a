"""The stage that tries settings on the development queries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from tqdm import tqdm

from irexp.types import UserError

log = logging.getLogger(__name__)

#: What is run for every combination; whatever it does not change is done already.
STAGES = ["fit", "encode", "index", "search", "re_rank", "fuse", "evaluate"]


def tune(
    output: Path,
    measured: Callable[[list[str]], dict[str, float]],
    check: Callable[[list[list[str]]], object],
    *,
    sweep: Sequence[str],
    measure: str,
) -> list[str]:
    """Measure every combination, write tune.md into `output`, and say which is best.

    Args:
        output: the job's output folder.
        measured: overrides → measures on the development queries.
        check: refuses combinations that cannot be run, before the first is.
        sweep: the values of each setting, as `index.k1=0.9,1.2`.
        measure: what is to be as large as possible; of equal combinations the first is taken.

    Returns:
        The overrides that are best.
    """
    rows = []
    tried = combinations(sweep)
    check(tried)
    for combination in tqdm(tried, desc="tune", unit=" settings"):
        found = measured(combination)
        if measure not in found:
            raise UserError(f"stage.tune.measure={measure} is not measured; there are {', '.join(found)}")
        rows.append((found[measure], combination))
    best = max(rows, key=lambda row: row[0])
    lines = [f"| settings | {measure}, development queries |", "| --- | ---: |"]
    lines += [f"| {' '.join(combination)} | {value:.4f} |" for value, combination in rows]
    (output / "tune.md").write_text("\n".join(lines) + "\n", encoding="utf8")
    log.info("tune: %s\n\n%s\n\nbest: %s", output / "tune.md", "\n".join(lines), " ".join(best[1]))
    return best[1]


def combinations(sweep: Sequence[str]) -> list[list[str]]:
    """Every combination of the values, in order.

    >>> combinations(["index.k1=0.9,1.2", "index.b=0.4"])
    [['index.k1=0.9', 'index.b=0.4'], ['index.k1=1.2', 'index.b=0.4']]
    """
    choices = []
    for setting in sweep:
        try:
            override = OverridesParser.create().parse_override(setting)
            is_sweep = override.is_sweep_override()
            values = list(override.sweep_string_iterator()) if is_sweep else [override.get_value_string()]
        except HydraException as error:
            raise UserError(f"stage.tune.sweep: {setting!r} names no values, as index.k1=0.9,1.2 does") from error
        if values == [""]:
            raise UserError(f"stage.tune.sweep: {setting!r} names no values, as index.k1=0.9,1.2 does")
        choices.append([f"{setting.partition('=')[0]}={value}" for value in values])
    return [list(combination) for combination in itertools.product(*choices)]
