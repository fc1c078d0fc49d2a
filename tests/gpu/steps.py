"""The ten steps of the smoke test: each runs what a user would run, and returns the expected and the found figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.gpu.bench import ROOT, Bench, Check, Skipped, near

_MEASURE, _VALIDATION = "nDCG@10", "validation/nDCG@10"

_SLURM = {name: "0" for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")}
_SLURM |= {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "1"}


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
    """Training in bf16 and in fp16 reaches the validation measure of fp32."""
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
    """A late-interaction model in bf16; a second search finds the same results."""
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
    checks.append(near(f"plaid {_MEASURE} against maxsim's", plaid["evaluate"]["measures"][_MEASURE], exact, 0.02))
    checks.append(Check("plaid seconds of index", plaid["index"]["seconds"]))
    return [*checks, Check("lines that a second search ranks or scores differently", different, "0", different == 0)]


def mono(bench: Bench) -> list[Check]:
    """A cross-encoder re-ranks."""
    return _fifty_steps(bench, "mono", "re_rank", expected=MONO, precision="32-true")


#: nDCG@10 after 50 steps in fp32 on a processor, and its tolerance for training in another precision.
SPLADE, COLBERT, MONO = (0.7924, 0.03), (0.7589, 0.03), (0.6511, 0.04)


def _fifty_steps(
    bench: Bench, model: str, stages: str, *, expected: tuple[float, float], precision: str = "bf16-mixed"
) -> list[Check]:
    overrides = [f"model={model}", "training.steps=50", f"training.precision={precision}"]
    made = bench.job(model, *overrides, f"stage=[fit,{stages},evaluate]")
    seconds = [Check(f"{model} seconds of {name}", stage["seconds"]) for name, stage in made.items()]
    return [near(f"{model} {_MEASURE}", made["evaluate"]["measures"][_MEASURE], *expected), *seconds]


def torch_dense(bench: Bench) -> list[Check]:
    """Torch's exact search has the measures of faiss's, and stage=speed runs."""
    expected = bench.record("whole")["evaluate"]["measures"]
    stages = bench.job("torch_dense", "index=torch_dense", "stage=[index,search,evaluate,speed]")
    found = stages["evaluate"]["measures"]
    checks = [near(f"torch_dense {name}", found[name], value, 0.0001) for name, value in expected.items()]
    memory = stages["speed"]["measures"]["memory_mib"]
    size = stages["speed"]["measures"]["bytes_per_document"] * 5389 / 2**20
    checks.append(Check("memory_mib of speed", memory, f"at least {size:.1f}, what it stores", memory >= 0.9 * size))
    return checks + [Check(f"speed {name}", value) for name, value in stages["speed"]["measures"].items()]


def stopped_and_resumed(bench: Bench) -> list[Check]:
    """A training that is stopped after about 100 steps resumes and ends at step 500."""
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
        os.killpg(process.pid, signal.SIGKILL)  # also the workers that it left
    process.communicate()
    stages = bench.job("stopped_again", *overrides)
    printed = (bench.scratch / "stopped_again" / "irexp.log").read_text(encoding="utf8")
    steps = [int(row.split(",")[0]) for row in _history(artifacts)]
    last = max(steps)
    resumed = "resuming the training" in printed
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
    """Faiss's engines find the same results on the GPU as on the processor."""
    environment = {}
    if bench.faiss_gpu is not None:
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(bench.faiss_gpu), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    find = "import torch, faiss; print(getattr(faiss, 'get_num_gpus', int)() if hasattr(faiss, 'GpuIndex') else 0)"
    if bench.python("-c", find, environment=environment).splitlines()[-1] == "0":
        raise Skipped("faiss was built without GPU support here")
    engines = ["faiss_flat", "faiss_ivf", "faiss_ivf_pq"]
    depth = "search.depth=90"  # otherwise the runs exist already, made on the processor
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
    stayed = [line.partition("] ")[2] for line in printed.splitlines() if "on the CPU" in line]
    if any("cannot use this GPU" in line for line in stayed):
        name = "a faiss without code for this GPU says so for each engine"
        return [*checks, Check(name, stayed, "3 lines", len(stayed) == 3)]
    return [*checks, Check("engines that stay on the processor", stayed or "none", "none", not stayed)]
