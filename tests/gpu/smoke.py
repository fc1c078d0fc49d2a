"""Ten checks for a machine with a GPU, in less than nine minutes: `python tests/gpu/smoke.py --output FOLDER`.

Each runs what a user would run, in its own processes and with a time limit; one that fails does not stop the others.
FOLDER gets smoke.json, smoke.md and the output of the commands; artifacts are in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for a script Python adds only its own folder

from tests.gpu import steps
from tests.gpu.bench import Bench, Check, Skipped

log = logging.getLogger(__name__)


@dataclass
class Result:
    """The result of a step: PASS, FAIL or SKIPPED, with its checks."""

    number: int
    title: str
    outcome: str = "FAIL"
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    error: str | None = None


#: Title, function, time limit in seconds. The first two run before the others, which use their artifacts.
STEPS: list[tuple[str, Callable[[Bench], list[Check]], float]] = [
    ("torch sees the GPU", steps.device, 60),
    ("the embedded default, end to end", steps.whole_experiment, 200),
    ("bf16-mixed and 16-mixed train as 32-true does", steps.lower_precision, 200),
    ("SPLADE in bf16, end to end", steps.splade, 150),
    ("ColBERT in bf16, end to end, searched twice", steps.colbert, 200),
    ("a cross-encoder re-ranks", steps.mono, 150),
    ("torch_dense measures what faiss_flat does, and its speed", steps.torch_dense, 120),
    ("a stopped training resumes", steps.stopped_and_resumed, 200),
    ("two processes inside a Slurm job", steps.two_processes_under_slurm, 150),
    ("faiss on the GPU", steps.faiss_on_the_gpu, 200),
]


def run_step(number: int, bench: Bench) -> Result:
    """Run one step; an error in it becomes its result."""
    title, function, limit = STEPS[number - 1]
    result, start = Result(number, title), time.monotonic()
    bench = Bench(
        bench.output, bench.scratch, bench.machine, bench.faiss_gpu, number, min(bench.deadline, start + limit)
    )
    try:
        result.checks = function(bench)
        result.outcome = "PASS" if all(check.passed for check in result.checks) else "FAIL"
    except Skipped as reason:
        result.outcome, result.error = "SKIPPED", str(reason)
    except Exception as error:
        result.error = f"{type(error).__name__}: {error}"
    result.seconds = round(time.monotonic() - start, 1)
    log.info("%2d %-7s %6.1f s  %s", number, result.outcome, result.seconds, title)
    return result


def to_markdown(results: list[Result], seconds: float) -> str:
    """A table of the steps, followed by every figure and every error."""
    lines = [f"{seconds:.0f} s in all.", "", "| step | outcome | seconds | |", "| ---: | --- | ---: | --- |"]
    lines += [f"| {r.number} | {r.outcome} | {r.seconds} | {r.title} |" for r in results]
    lines += ["", "| step | figure | found | expected | |", "| ---: | --- | --- | --- | --- |"]
    for result in results:
        for check in result.checks:
            verdict = "" if check.expected is None else "PASS" if check.passed else "FAIL"
            lines.append(f"| {result.number} | {check.name} | {check.value} | {check.expected or ''} | {verdict} |")
    lines += ["", *(f"Step {r.number}: {r.error}\n" for r in results if r.error)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the steps, and write all results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="where the results go")
    parser.add_argument("--steps", default="1-10", help="such as 1-3,7; default: all")
    parser.add_argument("--jobs", type=int, default=3, help="steps that run in parallel, from the third on")
    parser.add_argument("--seconds", type=float, default=530, help="time limit of all steps together")
    parser.add_argument("--machine", default="gpu", help="the machine option; cpu tests this script without a GPU")
    parser.add_argument("--faiss-gpu", type=Path, help="a folder with a faiss that has GPU support, for step 10")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    arguments.output.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="smoke-"))
    start = time.monotonic()
    bench = Bench(
        arguments.output.resolve(), scratch, arguments.machine, arguments.faiss_gpu, deadline=start + arguments.seconds
    )
    wanted = [n for part in arguments.steps.split(",") for n in _numbers(part)]
    results: list[Result] = []

    def keep(result: Result) -> None:
        results.append(result)
        results.sort(key=lambda known: known.number)
        seconds = time.monotonic() - start
        record = {"seconds": seconds, "steps": [asdict(known) for known in results]}
        (arguments.output / "smoke.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
        (arguments.output / "smoke.md").write_text(to_markdown(results, seconds), encoding="utf8")

    for number in [number for number in wanted if number <= 2]:
        keep(run_step(number, bench))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(lambda number: run_step(number, bench), [n for n in wanted if n > 2]):
            keep(result)
    shutil.rmtree(scratch, ignore_errors=True)
    log.info("%s", to_markdown(results, time.monotonic() - start))
    sys.exit(any(result.outcome == "FAIL" for result in results))


def _numbers(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    main()
