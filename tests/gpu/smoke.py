"""Ten checks for a machine with a GPU, in less than nine minutes: `python tests/gpu/smoke.py --output FOLDER`.

Each runs what a user would run, in processes of its own and with a time limit, and one that fails stops no other.
FOLDER gets smoke.json, smoke.md and what the commands printed; artifacts lie in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]

_MEASURE, _VALIDATION = "nDCG@10", "validation/nDCG@10"

_SLURM = {name: "0" for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")}
_SLURM |= {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "1"}


@dataclass
class Check:
    """One expectation and what was found; `expected` None is a figure to report, which cannot fail."""

    name: str
    value: Any
    expected: str | None = None
    passed: bool = True


@dataclass
class Result:
    """What came of a step: PASS, FAIL or SKIPPED."""

    number: int
    title: str
    outcome: str = "FAIL"
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    error: str | None = None


class Skipped(Exception):
    """This machine lacks what a step checks."""


@dataclass
class Bench:
    """What a step works with.

    Attributes:
        output: where logs and results go.
        scratch: where artifacts go.
        machine: the option of `machine` that most commands take.
        faiss_gpu: a folder with a faiss that has GPU support, to be imported before the installed one; or None.
        number: of the step.
        deadline: by the monotonic clock, when the step must have ended.
    """

    output: Path
    scratch: Path
    machine: str
    faiss_gpu: Path | None
    number: int = 0
    deadline: float = math.inf

    def python(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run Python in the repository; what it printed.

        Raises:
            RuntimeError: if it failed or took too long, with its last lines.
        """
        process = self.start(*arguments, environment=environment)
        outcome = "stopped at the time limit"
        try:
            printed, _ = process.communicate(timeout=max(1.0, self.deadline - time.monotonic()))
            outcome = f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
        with (self.output / "smoke.log").open("a", encoding="utf8") as file:
            file.write(f"\n$ python {' '.join(arguments)}   # step {self.number}, {outcome}\n{printed}")
        if process.returncode:
            raise RuntimeError(f"{outcome}: " + "\n".join(printed.splitlines()[-15:]))
        return printed

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start Python in the repository, in a process group of its own."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def command(self, name: str, *overrides: str) -> list[str]:
        """The arguments of a job whose record will be in the scratch folder under `name`."""
        own = [override.partition("=")[0] for override in overrides]
        common = {
            "machine": self.machine,
            "machine.progress": "false",
            "machine.threads": "4",
            "paths.artifacts": str(self.scratch / "artifacts"),
            "hydra.run.dir": str(self.scratch / name),
        }
        return ["run.py", *(f"{key}={value}" for key, value in common.items() if key not in own), *overrides]

    def job(self, name: str, *overrides: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run a job; its stages by name."""
        self.python(*self.command(name, *overrides), environment=environment)
        return self.record(name)

    def record(self, name: str) -> dict[str, Any]:
        """The stages of a job by name."""
        record = json.loads((self.scratch / name / "summary.json").read_text(encoding="utf8"))
        return {stage["stage"]: stage for stage in record["stages"]}


def near(name: str, value: float, expected: float, tolerance: float) -> Check:
    """A figure that must be within a tolerance of the expected one."""
    return Check(name, round(value, 4), f"{expected:.4f} ± {tolerance:g}", abs(value - expected) <= tolerance)


def device(bench: Bench) -> list[Check]:
    """The GPU's name, and the versions that are used."""
    found = json.loads(bench.python("tests/gpu/figures.py", "machine").splitlines()[-1])
    gpu = found.pop("gpu")
    return [Check("GPU", gpu, "one that torch sees", gpu is not None), *(Check(k, v) for k, v in found.items())]


def whole_experiment(bench: Bench) -> list[Check]:
    """The embedded default with its baselines."""
    stages = bench.job("whole")
    (bm25,) = (bench.scratch / "artifacts" / "measures").glob("bm25.*/measures.json")
    encoding = json.loads((Path(stages["encode"]["path"]) / "manifest.json").read_text(encoding="utf8"))
    figures = bench.python("tests/gpu/figures.py", "encoding", stages["fit"]["path"]).splitlines()[-1]
    small = json.loads(bench.python("tests/gpu/figures.py", "memory", stages["fit"]["path"]).splitlines()[-1])
    apart, tokens = small["difference"], small["tokens"]
    return [
        near("sbert nDCG@10", stages["evaluate"]["measures"][_MEASURE], 0.82, 0.02),
        near("bm25 nDCG@10", json.loads(bm25.read_text(encoding="utf8"))["aggregated"][_MEASURE], 0.7524, 0.00005),
        Check("token budget that fits a hundredth of the memory", tokens, "below 10,000,000", tokens < 10_000_000),
        Check("how far its embeddings are from those of 8,192", apart, "below 1e-5", apart < 1e-5),
        Check("seconds of fit", stages["fit"]["seconds"]),
        Check("seconds of encode", encoding["provenance"]["seconds"]),
        *(Check(name, value) for name, value in json.loads(figures).items()),
    ]


def lower_precision(bench: Bench) -> list[Check]:
    """Training in bf16 and in fp16 validates as training in fp32 does."""
    expected = bench.record("whole")["fit"]["measures"][_VALIDATION]
    checks = []
    for precision in ("bf16-mixed", "16-mixed"):
        stages = bench.job(precision, f"training.precision={precision}", "stage=fit")
        checks.append(near(f"{precision} {_VALIDATION}", stages["fit"]["measures"][_VALIDATION], expected, 0.02))
        checks.append(Check(f"{precision} seconds of fit", stages["fit"]["seconds"]))
    return checks


def splade(bench: Bench) -> list[Check]:
    """A sparse model in bf16."""
    return _fifty_steps(bench, "splade", "index,search", expected=SPLADE)


def colbert(bench: Bench) -> list[Check]:
    """A late-interaction model in bf16; a second search finds the same."""
    checks = _fifty_steps(bench, "colbert", "index,search", expected=COLBERT)
    run = Path(bench.record("colbert")["search"]["path"])
    first = run.rename(bench.scratch / "first_run")
    bench.job("colbert_again", "model=colbert", "training.steps=50", "training.precision=bf16-mixed", "stage=search")
    lines = [(folder / "test.run").read_text(encoding="utf8").splitlines() for folder in (first, run)]
    different = sum(one != other for one, other in zip(*lines, strict=True))
    scores = [{(row.split()[0], row.split()[2]): float(row.split()[4]) for row in rows} for rows in lines]
    apart = max(abs(scores[0][pair] - scores[1][pair]) for pair in scores[0].keys() & scores[1].keys())
    checks.append(Check("largest difference of a score between two searches", apart))
    settings = ["model=colbert", "training.steps=50", "training.precision=bf16-mixed", "index=plaid"]
    plaid = bench.job("plaid", *settings, "stage=[index,search,evaluate]")
    exact = bench.record("colbert")["evaluate"]["measures"][_MEASURE]
    checks.append(near(f"plaid {_MEASURE}, beside maxsim's", plaid["evaluate"]["measures"][_MEASURE], exact, 0.02))
    checks.append(Check("plaid seconds of index", plaid["index"]["seconds"]))
    return [*checks, Check("lines that a second search ranks or scores differently", different, "0", different == 0)]


def mono(bench: Bench) -> list[Check]:
    """A cross-encoder re-ranks."""
    return _fifty_steps(bench, "mono", "re_rank", expected=MONO, precision="32-true")


#: nDCG@10 after 50 steps in fp32 on a processor, and how far a training in another precision may be from it.
SPLADE, COLBERT, MONO = (0.7924, 0.03), (0.7589, 0.03), (0.6511, 0.04)


def _fifty_steps(
    bench: Bench, model: str, stages: str, *, expected: tuple[float, float], precision: str = "bf16-mixed"
) -> list[Check]:
    overrides = [f"model={model}", "training.steps=50", f"training.precision={precision}"]
    made = bench.job(model, *overrides, f"stage=[fit,{stages},evaluate]")
    seconds = [Check(f"{model} seconds of {name}", stage["seconds"]) for name, stage in made.items()]
    return [near(f"{model} {_MEASURE}", made["evaluate"]["measures"][_MEASURE], *expected), *seconds]


def torch_dense(bench: Bench) -> list[Check]:
    """Torch's exact search measures what faiss's does, and speed runs."""
    expected = bench.record("whole")["evaluate"]["measures"]
    stages = bench.job("torch_dense", "index=torch_dense", "stage=[index,search,evaluate,speed]")
    found = stages["evaluate"]["measures"]
    checks = [near(f"torch_dense {name}", found[name], value, 0.0001) for name, value in expected.items()]
    memory = stages["speed"]["measures"]["memory_mib"]
    size = stages["speed"]["measures"]["bytes_per_document"] * 5389 / 2**20
    checks.append(Check("memory_mib of speed", memory, f"at least {size:.1f}, what it stores", memory >= 0.9 * size))
    return checks + [Check(f"speed {name}", value) for name, value in stages["speed"]["measures"].items()]


def stopped_and_resumed(bench: Bench) -> list[Check]:
    """A training that is stopped after about 100 steps ends at step 500 when it is started again."""
    artifacts = bench.scratch / "stopped"
    overrides = ["machine.resume_every=20", "seed=7", "stage=fit", f"paths.artifacts={artifacts}"]
    process = bench.start(*bench.command("stopped_first", *overrides))
    while _last_step(artifacts) < 100 and process.poll() is None and time.monotonic() < bench.deadline:
        time.sleep(0.05)
    stopped_at = _last_step(artifacts)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=60)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that it left, too
    process.communicate()
    stages = bench.job("stopped_again", *overrides)
    printed = (bench.scratch / "stopped_again" / "irexp.log").read_text(encoding="utf8")
    steps = [int(row.split(",")[0]) for row in _history(artifacts)]
    last = max(steps)
    resumed = "going on with the training" in printed or "resum" in printed
    return [
        Check("the step it was stopped at", stopped_at, "100 to 480", 100 <= stopped_at <= 480),
        Check("the second says that it resumes", resumed, "True", resumed),
        Check("the last step", last, "500", last == 500),
        Check("losses in the history", len(set(steps)), "51: 0, 10, … 500", sorted(set(steps)) == [*range(0, 501, 10)]),
        Check("best validation", stages["fit"]["measures"][_VALIDATION]),
    ]


def _history(artifacts: Path) -> list[str]:
    histories = [*artifacts.glob("checkpoint/*/history.csv"), *artifacts.glob("checkpoint/.*/history.csv")]
    return histories[0].read_text(encoding="utf8").splitlines()[1:] if histories else []


def _last_step(artifacts: Path) -> int:
    rows = _history(artifacts)
    return int(rows[-1].split(",")[0] or 0) if rows else 0


def two_processes_under_slurm(bench: Bench) -> list[Check]:
    """Two processes share an encoding inside a Slurm job of one task."""
    overrides = ["machine=cpu", "machine.devices=2", "training=none", "stage=[fit,encode]"]
    overrides += [f"paths.artifacts={bench.scratch / 'slurm_artifacts'}", "machine.shard_size=1000"]
    printed = bench.python(*bench.command("slurm", *overrides), environment=_SLURM)
    documents = bench.record("slurm")["encode"]["measures"]["documents"]
    each_knows = all(f"GLOBAL_RANK: {rank}, MEMBER: {rank + 1}/2" in printed for rank in range(2))
    return [
        Check("documents", documents, "5389", documents == 5389),
        Check("each process knows its rank among two", each_knows, "True", each_knows),
    ]


def faiss_on_the_gpu(bench: Bench) -> list[Check]:
    """Faiss's engines on the GPU find what they find on the processor."""
    environment = {}
    if bench.faiss_gpu is not None:
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(bench.faiss_gpu), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    find = "import torch, faiss; print(getattr(faiss, 'get_num_gpus', int)() if hasattr(faiss, 'GpuIndex') else 0)"
    if bench.python("-c", find, environment=environment).splitlines()[-1] == "0":
        raise Skipped("faiss was built without GPU support here")
    engines = ["faiss_flat", "faiss_ivf", "faiss_ivf_pq"]
    depth = "search.depth=90"  # else the runs are there already, found on the processor
    overrides = [f"index={','.join(engines)}", "stage=[index,search,evaluate]", depth]
    sweep = bench.scratch / "faiss"
    program, *arguments = bench.command("faiss", *overrides, f"hydra.sweep.dir={sweep}")
    printed = bench.python(program, "-m", *arguments, environment=environment)
    expected = bench.record("whole")["evaluate"]["measures"][_MEASURE]
    checks = []
    for number, (engine, tolerance) in enumerate(zip(engines, (0.0005, 0.05, 0.1), strict=True)):
        stages = bench.record(f"faiss/{number}")
        checks.append(near(f"{engine} {_MEASURE}", stages["evaluate"]["measures"][_MEASURE], expected, tolerance))
        checks.append(Check(f"{engine} seconds of search", stages["search"]["seconds"]))
    stayed = [line.partition("] ")[2] for line in printed.splitlines() if "on the processor" in line]
    if any("cannot use this GPU" in line for line in stayed):
        name = "a faiss without code for this GPU says so for each engine"
        return [*checks, Check(name, stayed, "3 lines", len(stayed) == 3)]
    return [*checks, Check("engines that stay on the processor", stayed or "none", "none", not stayed)]


#: Title, function, seconds at most. The first two come first, since others start from what they make.
STEPS: list[tuple[str, Callable[[Bench], list[Check]], float]] = [
    ("torch sees the GPU", device, 60),
    ("the embedded default, end to end", whole_experiment, 200),
    ("bf16-mixed and 16-mixed train as 32-true does", lower_precision, 200),
    ("SPLADE in bf16, end to end", splade, 150),
    ("ColBERT in bf16, end to end, searched twice", colbert, 200),
    ("a cross-encoder re-ranks", mono, 150),
    ("torch_dense measures what faiss_flat does, and its speed", torch_dense, 120),
    ("a stopped training resumes", stopped_and_resumed, 200),
    ("two processes inside a Slurm job", two_processes_under_slurm, 150),
    ("faiss on the GPU", faiss_on_the_gpu, 200),
]


def run_step(number: int, bench: Bench) -> Result:
    """Run one step, whatever happens in it."""
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
    """A table of the steps, and under it every figure and every error."""
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
    """Run the steps, and write what came of them after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="where the results go")
    parser.add_argument("--steps", default="1-10", help="such as 1-3,7; default: all")
    parser.add_argument("--jobs", type=int, default=3, help="steps that run at once, from the third on")
    parser.add_argument("--seconds", type=float, default=530, help="when whatever still runs is stopped")
    parser.add_argument("--machine", default="gpu", help="the machine option; cpu tries this script itself")
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
