r"""One command makes every table of this folder that needs no GPU, one after the other; it takes many hours.

    python experiments/speed/make.py
    python experiments/speed/make.py sentence_transformers=st/bin/python pylate=pylate/bin/python \
        lightning_ir=lir/bin/python

The arguments are the interpreters of the other libraries' environments, of which README.md says how they are made; a
library without one is left out, and the tables say so. Further arguments are overrides of the recipes, such as
`dataset=aws_howto` where ir_datasets has no network.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LIBRARIES = ("sentence_transformers", "pylate", "lightning_ir")


def commands(arguments: list[str]) -> list[list[str]]:
    """What is run, in this order, from the root of the repository."""
    given = [argument.partition("=")[::2] for argument in arguments]
    pythons = {name: str(Path(value).absolute()) for name, value in given if name in LIBRARIES}
    overrides = [f"{name}={value}" for name, value in given if name not in LIBRARIES]
    run = [sys.executable, "run.py"]
    peers = [f"stage.peers.python.{name}={path}" for name, path in pythons.items()]
    options = [word for name, path in pythons.items() for word in (f"--{name.replace('_', '-')}", path)]
    trainings = ["--models", "sbert", "colbert", "splade", "--variants", "--output", str(FOLDER)]
    return [
        [sys.executable, str(FOLDER / "benchmark.py")],
        [*run, "-m", "stage=peers", "experiment=speed_encode,speed_re_rank,speed_fit", *peers, *overrides],
        [*run, "experiment=speed_keys", *overrides],
        [*run, "experiment=speed_growth"],
        [sys.executable, "-m", "tests.benchmark.fit_peers", *options, *trainings],
        [sys.executable, "-m", "tests.benchmark.start_up", "--output", str(FOLDER)],
        *([_end_to_end(pythons["lightning_ir"])] if "lightning_ir" in pythons else []),
    ]


def _end_to_end(python: str) -> list[str]:
    return [sys.executable, "-m", "tests.benchmark.end_to_end", "--lightning-ir", python, "--output", str(FOLDER)]


def main(arguments: list[str]) -> None:
    """Run all commands; one that fails is named in the end, and the others are run."""
    failed = []
    for command in commands(arguments):
        print(f"$ {shlex.join(command)}", flush=True)
        if subprocess.run(command, cwd=FOLDER.parents[1], check=False).returncode:
            failed.append(shlex.join(command))
    page = subprocess.run([sys.executable, FOLDER / "scale.py"], capture_output=True, text=True, check=True).stdout
    (FOLDER / "scale.md").write_text(page, encoding="utf8")
    if failed:
        sys.exit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
