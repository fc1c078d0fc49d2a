"""Kill trainings at random moments and run them again: weights and curve are those of a training that was left alone.

    python -m tests.reliability.kill_fit --times 2

Every loss, sampler, schedule and way to train a tiny model for a few epochs is hit by SIGKILL after its first resume
file was written, also while it resumes. All files of the checkpoint are compared byte by byte, with the loss of every
step in its history. Without validation the weights are those of the last step, with it those of the best one.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, get_args

import torch

from irexp import component, fit, new_model, save
from irexp.config.installation import CONF
from irexp.dataset.collection import Examples, Mixing
from irexp.dataset.draw import Sampler
from irexp.dataset.examples import FileExamples
from irexp.dataset.in_memory import TextDocuments, TextTopics
from irexp.dataset.mixture import MixedExamples, TrainingSet
from irexp.loss.loss import Loss
from irexp.loss.weighted_sum import WeightedSum
from irexp.training import trainer
from tests import tiny
from tests.chains import TEXTS

#: Two and two thirds epochs of a dozen queries, each step of which is resumed from.
_STEPS, _BATCH = 8, 4

_LOG = "log.txt"

Settings = Mapping[str, Any]
#: A training of a folder.
Train = Callable[..., Mapping[str, float]]


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        loss: builds what it minimises.
        model: an option of conf/model.
        settings: of the model.
        training: settings of conf/training; there is no validation unless they say how often.
        machine: settings of conf/machine.
        examples: makes its examples of the default ones.
        more: makes further arguments of `fit`.
    """

    loss: Callable[[], Loss]
    model: str = "sbert"
    settings: Settings = field(default_factory=dict)
    training: Settings = field(default_factory=dict)
    machine: Settings = field(default_factory=dict)
    examples: Callable[[Examples], Examples] = lambda examples: examples
    more: Callable[[], Settings] = dict


def options(group: str) -> list[str]:
    """The options of a group of the configuration."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def loss_of(option: str, **settings: Any) -> Callable[[], Loss]:
    """Builds an option of conf/loss."""
    return partial(component, "loss", option, **settings)


def summed(*names: str) -> Loss:
    """The sum of losses, the second one with a smaller weight."""
    return WeightedSum({name: component("loss", name) for name in names}, weights={names[1]: 0.1})


def mixed(examples: Examples, mixing: Mixing) -> Examples:
    """The examples twice, as a set with a prompt of its own and as one that is visited twice as often."""
    sets = {"one": TrainingSet(examples, query_prompt="list "), "two": TrainingSet(examples, weight=2.0)}
    return MixedExamples(sets, mixing=mixing)


def option_of(group: str, name: str) -> Settings:
    """An option of a group, as an argument of `fit`."""
    return {group: component(group, name)}


def left_out(name: str, backbone: Path) -> Settings:
    """An option of conf/false_negatives; its guide, if it needs one, is an untrained model."""
    if name != "guide":
        return {"false_negatives": vars(component("false_negatives", name))}
    save(new_model("sbert", backbone=str(backbone), seed=7), backbone.with_name("guide"))
    return {"false_negatives": vars(component("false_negatives", name, guide=str(backbone.with_name("guide"))))}


def cases(backbone: Path) -> dict[str, Case]:
    """Every training by its name."""
    in_batch, lists = loss_of("info_nce"), loss_of("kl_divergence", scale=5.0)
    found = {
        f"loss {name}": Case(loss_of(name), "mvr" if name == "contrastive_local" else "sbert")
        for name in options("loss")
    }
    found |= {
        f"loss {'+'.join(names)}": Case(partial(summed, *names))
        for names in (("kl_divergence", "margin_mse"), ("info_nce", "kl_divergence"))
    }
    learning = [name for name in options("loss") if "\nlearn_scale:" in (CONF / "loss" / f"{name}.yaml").read_text()]
    found |= {f"learned scale {name}": Case(loss_of(name, learn_scale=True, scale=2.0)) for name in learning}
    for sampler in get_args(Sampler):
        found[f"sampler {sampler}"] = Case(lists, more=partial(dict, sampler=sampler, negatives_per_query=2))
    for name in options("schedule"):
        found[f"schedule {name}"] = Case(in_batch, more=partial(option_of, "schedule", name))
    for name in options("regularizer"):
        if name != "none":
            found[f"regularizer {name}"] = Case(
                loss_of("info_nce_dot"), "splade", more=partial(option_of, "regularizer", name)
            )
    for name in get_args(Mixing):
        found[f"mixture {name}"] = Case(lists, examples=partial(mixed, mixing=name))
    for name in ("sbert", "colbert", "splade", "mono"):
        loss = loss_of("lce") if name == "mono" else loss_of("info_nce_dot")
        found[f"GradCache {name}"] = Case(loss, name, training={"chunk_size": 3})
        found[f"LoRA {name}"] = Case(loss, name, more=partial(option_of, "adapter", "lora"))
    for name in options("false_negatives"):
        found[f"false negatives {name}"] = Case(in_batch, more=partial(left_out, name, backbone))
    return found | ways()


def ways() -> dict[str, Case]:
    """Ways to train besides those that are options of a group."""
    in_batch, lists = loss_of("info_nce"), loss_of("kl_divergence", scale=5.0)
    return {
        "EMA": Case(in_batch, training={"ema_decay": 0.9}),
        "EMA and accumulation": Case(in_batch, training={"ema_decay": 0.9, "accumulate_batches": 2}),
        "EMA and validation": Case(in_batch, training={"ema_decay": 0.9, "validate_every": 2}),
        "accumulation": Case(lists, training={"accumulate_batches": 2}),
        "length buckets": Case(in_batch, training={"length_buckets": 2}),
        "layer decay": Case(in_batch, training={"layer_decay": 0.7, "head_learning_rate": 2e-3}),
        "frozen layers": Case(in_batch, training={"frozen_layers": 1}),
        "early stopping": Case(in_batch, training={"patience": 1, "validate_every": 1}),
        "validation": Case(in_batch, training={"validate_every": 2}),
        "bf16-mixed": Case(in_batch, training={"precision": "bf16-mixed"}),
        "Matryoshka": Case(in_batch, "colbert", {"matryoshka_dims": [4, 8]}),
        "XTR": Case(in_batch, "xtr"),
        "Set-Encoder": Case(loss_of("rank_net"), "set_encoder"),
        "gradient checkpointing": Case(in_batch, machine={"gradient_checkpointing": True}),
        "forward tokens": Case(in_batch, machine={"forward_tokens": 24}),
        "workers": Case(in_batch, machine={"num_workers": 1}),
        "rare resume files": Case(in_batch, training={"validate_every": 1}, machine={"resume_every": 3}),
    }


def write_examples(folder: Path) -> Examples:
    """A dozen queries with five documents each and a teacher's scores, the positive first."""
    steps, scores = (0, 1, 3, 5, 7), (5.0, 3.0, 2.0, 0.5, 0.25)
    lines = [
        [f"q{n}", *([f"d{(n + step) % len(TEXTS)}", score + n / 50] for step, score in zip(steps, scores, strict=True))]
        for n in range(len(TEXTS))
    ]
    path = folder / "lists.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return FileExamples(str(path), topics=topics())


def topics() -> TextTopics:
    """A query for each document, which is relevant to it."""
    queries = {f"q{n}": text.removeprefix("how to ") for n, text in enumerate(TEXTS)}
    return TextTopics(queries, {f"q{n}": [f"d{n}"] for n in range(len(TEXTS))})


def training_of(case: Case, backbone: Path, examples: Examples) -> Train:
    """The training of a case; its folder is left to the caller."""
    trained = case.examples(examples)
    return partial(
        fit,
        new_model(case.model, backbone=str(backbone), **case.settings),
        case.loss(),
        trained,
        TextDocuments({f"d{n}": text for n, text in enumerate(TEXTS)}),
        steps=_STEPS,
        learning_rate=1e-3,
        batch_size=_BATCH,
        dev=topics() if "validate_every" in case.training else None,
        training=case.training,
        machine=component("machine", "cpu", **{"threads": 1, "progress": False, "resume_every": 1, **case.machine}),
        **case.more(),
    )


def start(train: Train, folder: Path) -> BaseProcess:
    """Start a training in a process that is forked from this one, which has imported everything."""
    job = multiprocessing.get_context("fork").Process(target=_run, args=(train, folder))
    job.start()
    return job


def _run(train: Train, folder: Path) -> None:
    with folder.with_suffix(f".{_LOG}").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        train(folder=folder)
    except Exception:
        traceback.print_exc()
        os._exit(1)


def kill(job: BaseProcess, folder: Path, seconds: float) -> bool:
    """Kill a training some seconds after it has a resume file; returns whether it was still running."""
    while job.is_alive() and not _resume_file(folder).is_file():
        time.sleep(0.001)
    job.join(seconds)
    if not job.is_alive():
        return False
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    return (folder / ".training").is_dir()  # else it had just ended


def _resume_file(folder: Path) -> Path:
    return folder / ".training" / "last.ckpt"


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def undisturbed(train: Train, folder: Path) -> tuple[dict[str, bytes], float]:
    """The files of a training that is left alone, and the seconds from its first resume file to its end."""
    job = start(train, folder)
    while job.is_alive() and not _resume_file(folder).is_file():
        time.sleep(0.001)
    begun = time.perf_counter()
    job.join()
    assert job.exitcode == 0, folder.with_suffix(f".{_LOG}").read_text()
    return content(folder), time.perf_counter() - begun


def killed(train: Train, folder: Path, chance: random.Random, *, times: int, seconds: float) -> Iterator[int]:
    """Kill a training several times in a row, and run it to its end; yields the step of each resume file."""
    hit = 0
    while hit < times:
        if kill(start(train, folder), folder, chance.uniform(0, seconds)):
            hit += 1
            yield int(torch.load(_resume_file(folder), map_location="cpu", weights_only=True)["global_step"])
        else:  # it ended first; the next one has less time
            shutil.rmtree(folder)
            seconds, hit = seconds / 2, 0
    job = start(train, folder)
    job.join()
    if job.exitcode != 0:
        raise RuntimeError(folder.with_suffix(f".{_LOG}").read_text()[-2000:])


def main() -> int:
    """Kill every training; the exit status is 1 if a file differs, or a training fails afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2, help="kills of each training, in a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="trainings whose name contains one of these")
    chosen = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive a fork
    torch.set_num_threads(1)
    trainer._LOG_EVERY = 1  # so that the history holds every step
    chance, steps, faults = random.Random(chosen.seed), Counter[int](), list[str]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        backbone, examples = tiny.bert(root / "bert", "BertForMaskedLM"), write_examples(root)
        wanted = cases(backbone)
        if lost := [each for each in chosen.only or () if not any(each in title for title in wanted)]:
            parser.error(f"no training is called {lost[0]!r}; there are {', '.join(wanted)}")
        wanted = {title: case for title, case in wanted.items() if any(each in title for each in chosen.only or [""])}
        for number, (title, case) in enumerate(wanted.items(), 1):
            train = training_of(case, backbone, examples)
            gc.freeze()  # otherwise the first collection of a forked process copies all of this one's memory
            expected, seconds = undisturbed(train, root / f"whole-{number}")
            found, folder = Counter[int](), root / f"killed-{number}"
            try:
                found.update(killed(train, folder, chance, times=chosen.times, seconds=seconds))
                differing = sorted(key for key, value in content(folder).items() if expected.get(key) != value)
                differing += sorted(expected.keys() - content(folder).keys())
                fault = f"differing: {differing}" if differing else ""
            except RuntimeError as error:
                fault = str(error)
            steps += found
            faults += [f"{title}, killed after steps {sorted(found.elements())}: {fault}"] if fault else []
            sys.stderr.write(f"{number} of {len(wanted)}: {title}: {'WRONG' if fault else 'as undisturbed'}\n")
    lines = [f"{count:4} times after step {step}" for step, count in sorted(steps.items())]
    sys.stdout.write("\n".join([*lines, *faults, f"{steps.total()} killed, {len(faults)} not made good", ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
