"""The chain of stages on a small collection: what is made, found, refused, resumed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from irexp import load
from irexp.artifact.store import MissingArtifactError, read_manifest
from irexp.evaluation.run_file import read_run
from irexp.index.shards import Encoding
from irexp.stage.chain import Outcome, run_chain
from irexp.stage.job import compose_overrides
from irexp.stage.report import report
from irexp.stage.verify import verify
from irexp.types import UserError

ROOT = Path(__file__).parents[2]
STAGES = ["fit", "encode", "index", "search", "evaluate"]
TEXTS = [f"how to {verb} a {noun}" for verb in ("make", "list", "delete", "copy") for noun in ("cup", "tree", "song")]

Compose = Callable[..., DictConfig]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout; two test queries, one of which asks for a document that is not there."""
    folder = tmp_path / "toys"
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d{number}", "text": text}) for number, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "d0", "text": "make cups"}\n{"_id": "q2", "text": "zzz"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd0\td0\t1\nd0\td3\t1\nq2\tgone\t1\n")
    return folder


def settings(tmp_path: Path, collection: Path, *more: str) -> list[str]:
    """The overrides of an untrained model on the collection."""
    return [
        "training=none",
        "dataset=local",
        f"dataset.path={collection}",
        f"paths.artifacts={tmp_path / 'artifacts'}",
        "machine.progress=false",
        *more,
    ]


def run(compose: Compose, overrides: list[str], names: list[str] = STAGES) -> dict[str, Outcome]:
    """Run stages; stage → outcome."""
    return {outcome.stage: outcome for outcome in run_chain(compose(*overrides), names, overrides)}


def test_made_once_and_then_found(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """The second time nothing is made, the measures are the same, and each artifact says what made it."""
    first = run(compose, settings(tmp_path, collection))
    second = run(compose, settings(tmp_path, collection))
    assert {outcome.status for outcome in first.values()} == {"made"}
    assert {outcome.status for outcome in second.values()} == {"already done"}
    assert {s: (o.path, o.measures) for s, o in first.items()} == {s: (o.path, o.measures) for s, o in second.items()}
    for outcome in first.values():
        assert outcome.path is not None
        provenance = read_manifest(Path(outcome.path))["provenance"]
        assert provenance["configuration"]["seed"] == 42
        assert provenance["overrides"][0] == "training=none"
        assert provenance["versions"]["torch"].startswith("2.13.0")
        assert provenance["seconds"] >= 0
        assert len(provenance["git"]["commit"]) == 40
        assert provenance["hardware"]["cores"] == os.cpu_count()


def test_the_run_is_the_naive_one(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Search over the index gives the inner products of the embeddings, all documents when the depth is greater."""
    outcomes = run(compose, settings(tmp_path, collection, "search.depth=50"))
    assert outcomes["fit"].path and outcomes["search"].path
    encoder = load(outcomes["fit"].path)
    scores = encoder.score("make cups", TEXTS).tolist()
    expected = sorted(((f"d{i}", score) for i, score in enumerate(scores)), key=lambda pair: (-pair[1], pair[0]))
    found = [line for line in read_run(Path(outcomes["search"].path) / "test.run") if line.query_id == "d0"]
    assert [line.doc_id for line in found] == [doc_id for doc_id, _ in expected]
    assert [line.score for line in found] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_what_is_known_about_the_data_is_logged(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A relevant document that the collection lacks, and a query without a hit, are counted."""
    overrides = settings(tmp_path, collection, "model=bm25")
    outcomes = run(compose, overrides)
    assert "1 of 3 relevant documents are not in the index, such as 'gone'" in caplog.text
    assert "1 of 2 queries have no hit" in caplog.text
    assert outcomes["search"].measures == {"queries": 2.0, "queries_without_hit": 1.0}
    assert outcomes["fit"].status == "nothing to do: bm25 has no checkpoint"


def test_the_query_may_be_left_out(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """search.remove_query drops the document whose id is the query's and keeps the depth."""
    overrides = settings(tmp_path, collection, "search.depth=3", "search.remove_query=true")
    outcomes = run(compose, overrides)
    lines = read_run(Path(str(outcomes["search"].path)) / "test.run")
    found = [line.doc_id for line in lines if line.query_id == "d0"]
    assert len(found) == 3
    assert "d0" not in found


@pytest.mark.parametrize("model", ["sbert", "bm25"])
def test_what_was_taken_out_is_no_result(compose: Compose, tmp_path: Path, collection: Path, model: str) -> None:
    """A file of document ids moves the run alone, by its content, and nothing is indexed anew."""
    base = settings(tmp_path, collection, f"model={model}")
    whole = run(compose, base)
    (tmp_path / "gone.txt").write_text("d0\nd2\n")
    without = run(compose, [*base, f"search.exclude_path={tmp_path / 'gone.txt'}"])
    assert (without["index"].status, without["search"].status) == ("already done", "made")
    found, kept = (
        [line.doc_id for line in read_run(Path(str(outcomes["search"].path)) / "test.run") if line.query_id == "d0"]
        for outcomes in (whole, without)
    )
    assert "d0" in found
    assert kept == [doc_id for doc_id in found if doc_id not in ("d0", "d2")]


def test_ten_index_settings_encode_once(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Another depth makes a run, another type of the encoding makes an encoding and what follows."""
    run(compose, settings(tmp_path, collection))
    deeper = run(compose, settings(tmp_path, collection, "search.depth=5"))
    halves = run(compose, settings(tmp_path, collection, "encoding=half"))
    assert [o.status for o in deeper.values()] == ["already done"] * 3 + ["made"] * 2
    assert [o.status for o in halves.values()] == ["already done"] + ["made"] * 4


def test_a_changed_file_is_another_collection(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Nothing stale is ever used: one more document, and the encoding is another one."""
    before = run(compose, settings(tmp_path, collection))
    with (collection / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "gone", "text": "zzz"}\n')
    after = run(compose, settings(tmp_path, collection))
    assert [outcome.status for outcome in after.values()] == ["already done"] + ["made"] * 4
    assert after["evaluate"].measures != before["evaluate"].measures


def test_a_missing_artifact_names_the_stage_and_the_difference(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Search without a checkpoint never trains; the nearest one differs in what was typed."""
    run(compose, settings(tmp_path, collection), ["fit"])
    with pytest.raises(MissingArtifactError, match=r"there is no checkpoint/.*stage=fit(.|\n)*seed: 42 there, 7 here"):
        run(compose, settings(tmp_path, collection, "seed=7"), ["search"])
    with pytest.raises(MissingArtifactError, match=r"there is no encoding/.*stage=encode"):
        run(compose, settings(tmp_path, collection), ["search"])


def test_a_checkpoint_from_elsewhere(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder takes the checkpoint's place, says which settings have no effect, and gives the same embeddings."""
    made = run(compose, settings(tmp_path, collection))
    given = tmp_path / "theirs"
    os.rename(str(made["fit"].path), given)
    (given / "manifest.json").unlink()
    overrides = settings(tmp_path, collection, f"artifact.checkpoint={given}", "model.pooling=cls")
    outcomes = run(compose, overrides)
    assert outcomes["fit"].status == "given"
    assert "model.pooling=cls: no effect" in caplog.text
    vectors = [next(Encoding(Path(str(o["encode"].path))).batches()) for o in (made, outcomes)]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    with pytest.raises(MissingArtifactError, match="there is nothing at"):
        run(compose, settings(tmp_path, collection, "artifact.checkpoint=./nowhere"), ["search"])


def test_a_run_from_elsewhere_is_evaluated(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """`artifact.run=<file>` needs no model, checkpoint or index."""
    file = tmp_path / "their.run"
    file.write_text("d0 Q0 d3 1 2.5 theirs\nd0 Q0 d1 2 1.5 theirs\n")
    outcomes = run(compose, settings(tmp_path, collection, f"artifact.run={file}"), ["evaluate"])
    assert outcomes["evaluate"].measures["RR@10"] == pytest.approx(0.5)  # over both queries of the judgements


KILLED = """
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.stage import encode
from irexp.stage.chain import run_chain
import os

write = encode.write_shard
def dies(folder, number, *arguments, **options):
    if number == 2:
        os.kill(os.getpid(), 9)
    write(folder, number, *arguments, **options)
encode.write_shard = dies
register_resolvers(); register_schema()
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    config = compose("config", overrides=sys.argv[2:])
list(run_chain(config, ["fit", "encode"], []))
"""


def test_a_killed_encoding_goes_on_behind_its_last_shard(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Shards of four: two are complete when the process dies; the result is the whole one's."""
    whole = run(compose, settings(tmp_path / "whole", collection))
    overrides = settings(tmp_path, collection, "machine.shard_size=4")
    done = subprocess.run([sys.executable, "-c", KILLED, str(ROOT / "conf"), *overrides], check=False, timeout=300)
    assert done.returncode == -9
    caplog.set_level("INFO")
    outcomes = run(compose, overrides)
    assert "going on behind 8 documents" in caplog.text
    assert outcomes["encode"].status == "made"
    vectors = [np.concatenate(list(Encoding(Path(str(o["encode"].path))).batches())) for o in (whole, outcomes)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert outcomes["evaluate"].measures == whole["evaluate"].measures


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.depth=0"], r"search\.depth=0"),
        (["machine.accelerator=gpu"], "torch sees no GPU here"),
        (["dataset.test.qrels_path=nowhere"], "nowhere is not there"),
        (["model.query_length=100000"], r"model\.query_length=100000: the backbone reads 512"),
    ],
)
def test_what_the_user_can_mend_is_said(
    compose: Compose, tmp_path: Path, collection: Path, overrides: list[str], message: str
) -> None:
    """Each with the setting that is wrong."""
    with pytest.raises(UserError, match=message):
        run(compose, settings(tmp_path, collection, *overrides))


@pytest.mark.parametrize(
    ("typed", "changes", "expected"),
    [
        (["seed=1", "training.steps=4"], ["training=none"], ["seed=1", "training=none"]),
        (["model=sbert", "index.x=1", "dataset=local"], ["model=bm25"], ["dataset=local", "model=bm25"]),
        (["seed=1"], ["index.k1=0.9"], ["seed=1", "index.k1=0.9"]),
    ],
)
def test_a_baseline_keeps_what_was_typed_and_still_has_a_meaning(
    typed: list[str], changes: list[str], expected: list[Any]
) -> None:
    """A baseline of another model drops the settings of the experiment's own."""
    assert compose_overrides(typed, changes) == expected


def test_what_an_engine_is_searched_with_builds_nothing_anew(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Another number of clusters is another index, another number of searched ones only another run."""
    base = settings(tmp_path, collection, "index=faiss_ivf", "index.lists=4")
    first = run(compose, [*base, "index.search.probes=1"])
    second = run(compose, [*base, "index.search.probes=4"])
    assert (second["index"].status, second["search"].status) == ("already done", "made")
    runs = [list(read_run(Path(str(outcomes["search"].path)) / "test.run")) for outcomes in (first, second)]
    flat = run(compose, settings(tmp_path, collection))
    exact = list(read_run(Path(str(flat["search"].path)) / "test.run"))
    assert len(runs[0]) < len(runs[1]) == len(exact)
    third = run(compose, [*base[:-1], "index.lists=2", "index.search.probes=2"])
    assert (third["encode"].status, third["index"].status) == ("already done", "made")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["index=faiss_ivf", "index.lists=100"], "learns 100 clusters from 12 vectors, which are too few"),
        (["index=faiss", "index.factory=nonsense"], "faiss makes no such index of 128 dimensions"),
        (["index=faiss_ivf_pq"], "learns codes of 256 values from 12 vectors"),
        (["index=plaid"], "the model makes dense vectors and Plaid takes vectors for each token"),
    ],
)
def test_an_engine_that_cannot_be_built_is_refused_before_anything_is_encoded(
    compose: Compose, tmp_path: Path, collection: Path, overrides: list[str], message: str
) -> None:
    """Not when hours of encoding are behind it."""
    with pytest.raises(UserError, match=message):
        run(compose, settings(tmp_path, collection, *overrides))
    assert not list((tmp_path / "artifacts" / "encoding").glob("*/manifest.json"))


def test_a_setting_that_a_structure_does_not_have(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """A flat index has no clusters to choose from."""
    with pytest.raises(UserError, match=r"index.search.probes=4: an index Flat has no such thing"):
        run(compose, settings(tmp_path, collection, "index=faiss", "index.factory=Flat", "index.search.probes=4"))


@pytest.mark.parametrize(
    ("model", "indexes"),
    [
        ("colbert", ["maxsim", "plaid", "xtr", "muvera"]),
        ("splade_doc", ["sparse", "seismic"]),
        ("coil", ["coil"]),
        ("sbert", ["torch_dense", "binary", "faiss_hnsw", "faiss_sq"]),
    ],
)
def test_engines_share_an_encoding(
    compose: Compose, tmp_path: Path, collection: Path, model: str, indexes: list[str]
) -> None:
    """Every engine of a kind of vectors, from the command line's configuration to measures, encoding once."""
    fast = {"xtr": ["index.engine.factory=Flat", "index.engine.search.probes=null"], "plaid": ["index.centroids=8"]}
    for number, name in enumerate(indexes):
        overrides = settings(tmp_path, collection, f"model={model}", f"index={name}", *fast.get(name, []))
        outcomes = run(compose, overrides)
        assert outcomes["encode"].status == ("already done" if number else "made")
        assert outcomes["index"].status == outcomes["evaluate"].status == "made"


@pytest.mark.parametrize("overrides", [["model=bm25"], ["index=faiss_ivf", "index.lists=4", "index.search.probes=1"]])
def test_the_cost_of_a_search_is_measured_and_reported(
    compose: Compose, tmp_path: Path, collection: Path, overrides: list[str]
) -> None:
    """Beside the effectiveness of the same run, as a table and a picture; what is not searched is not found."""
    settings_ = settings(tmp_path, collection, "stage=[all,speed]", *overrides)
    outcomes = run(compose, settings_, [*STAGES, "speed"])
    measured = outcomes["speed"].measures
    assert measured["ms_one_by_one"] > 0 and measured["bytes_per_document"] > 0 and measured["build_seconds"] >= 0
    if "model=bm25" not in overrides:
        assert 0 < measured["recall_of_exact"] < 1
    (tmp_path / "output").mkdir()
    config = compose(*settings_)
    report(tmp_path / "output", rows=None, artifacts=config.paths.artifacts, evaluation=config.evaluation)
    table = (tmp_path / "output" / "table.speed.md").read_text()
    assert f"{measured['bytes_per_document']:,.4g}" in table
    assert (tmp_path / "output" / "table.speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_is_named_and_the_same_command_goes_on(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """A device that is always full stands where the vectors are to be written."""
    base = settings(tmp_path, collection, "index=torch_dense")
    run(compose, base, ["fit", "encode"])
    partial = tmp_path / "artifacts" / compose(*base).artifact.index.replace("index/", "index/.partial-")
    partial.mkdir(parents=True)
    (partial / "vectors.bin").symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space is left on the disk of"):
        run(compose, base, ["index"])
    (partial / "vectors.bin").unlink()
    assert run(compose, base, ["index"])["index"].status == "made"


def test_every_artifact_is_read_again(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """One byte in one of all artifacts."""
    base = settings(tmp_path, collection)
    made = run(compose, base)
    config = compose(*base)
    verify(artifacts=config.paths.artifacts, machine=config.machine)
    (vectors,) = Path(str(made["encode"].path)).glob("*.vectors.npy")
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(UserError, match=rf"{vectors.name} has another content"):
        verify(artifacts=config.paths.artifacts, machine=config.machine)


def contents(outcomes: dict[str, Outcome], stage: str) -> dict[str, bytes]:
    """The files of an artifact, less what says when they were written."""
    folder = Path(str(outcomes[stage].path))
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".json"
    }


@pytest.mark.slow
def test_processes_and_nodes_make_the_encoding_and_the_index_of_one(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """Each takes every second window, and every second part; file by file the artifacts are the same."""
    base = settings(tmp_path, collection, "index=sharded", "index.parts=3", "machine.shard_size=5", "machine=cpu")
    stages = ["fit", "encode", "index"]
    alone = run(compose, [*base, f"paths.artifacts={tmp_path / 'alone'}"], stages)
    together = run(compose, [*base, f"paths.artifacts={tmp_path / 'together'}", "machine.devices=2"], stages)
    nodes = on_two_nodes([*base, "machine.num_nodes=2", "stage=[fit,index]"], tmp_path)
    assert "encode: helping to make" in nodes[1] and "index: helping to make" in nodes[1]
    shared = run(compose, base, stages)
    assert {outcome.status for outcome in shared.values()} == {"already done"}
    for stage, least in (("encode", 9), ("index", 5)):  # three shards of three files, three parts and the ids
        assert len(contents(alone, stage)) >= least
        assert contents(alone, stage) == contents(together, stage) == contents(shared, stage)


def on_two_nodes(overrides: list[str], folder: Path) -> list[str]:
    """Run the command on two nodes, which here are processes; what each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    nodes = [
        subprocess.Popen(
            [sys.executable, "run.py", *overrides, f"hydra.run.dir={folder / f'node{rank}'}"],
            cwd=ROOT,
            env={**os.environ, **address, "NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    return printed
