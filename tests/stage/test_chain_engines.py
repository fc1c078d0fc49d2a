"""Engines in the chain of stages: shared encodings, rebuilt indexes, refusals and costs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from irexp import component, open_index
from irexp.evaluation.run_file import read_run
from irexp.index import milvus_collection
from irexp.stage.report import report
from irexp.types import UserError
from tests.chains import STAGES, Compose, run, settings

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_setting_makes_only_the_artifacts_that_follow_it(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Another depth makes a run and its measures; another data type makes the encoding and all after it."""
    run(compose, settings(tmp_path, collection))
    deeper = run(compose, settings(tmp_path, collection, "search.depth=5"))
    halves = run(compose, settings(tmp_path, collection, "encoding=half"))
    assert [o.status for o in deeper.values()] == ["already done"] * 3 + ["made"] * 2
    assert [o.status for o in halves.values()] == ["already done"] + ["made"] * 4


def test_search_settings_do_not_rebuild_the_index(compose: Compose, tmp_path: Path, collection: Path) -> None:
    """Another number of clusters makes another index, another number of probed clusters only another run."""
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


def test_vectors_of_another_checkpoint_are_named(
    compose: Compose, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a given index or encoding; nothing is said of their own checkpoint, wherever it lies."""
    overrides = settings(tmp_path, collection)
    made = run(compose, overrides, STAGES[:-2])
    shutil.copytree(Path(str(made["fit"].path)), copied := tmp_path / "copied")
    own = [[], [f"artifact.checkpoint={made['fit'].path}"], [f"artifact.checkpoint={copied}"]]
    for kind, stage in (("index", "index"), ("encoding", "encode")):
        given = [*overrides, f"artifact.{kind}={made[stage].path}"]
        for checkpoint in own:
            run(compose, [*given, *checkpoint], [stage, "search"])
        assert "another checkpoint" not in caplog.text
    other = [*overrides, "model.pooling=cls"]
    run(compose, other, ["fit"])
    identifier = Path(str(made["index"].path)).relative_to(tmp_path / "artifacts")
    run(compose, [*other, f"artifact.index={identifier}"], ["search"])
    assert f"artifact.index={identifier} holds vectors of another checkpoint than checkpoint/sbert.toys-" in caplog.text


def test_a_given_index_is_opened_with_the_settings_it_was_built_with(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """From the command line and from Python; the settings of its search are free."""
    overrides = settings(tmp_path, collection, "index=faiss_ivf", "index.lists=4")
    folder = run(compose, overrides, STAGES[:-2])["index"].path
    given = [*overrides, f"artifact.index={folder}", "index.search.probes=1"]
    assert run(compose, given, ["search"])["search"].status == "made"
    with pytest.raises(UserError, match="lists was 4 and is now 2"):
        run(compose, [*given, "index.lists=2", "index.search.probes=2"], ["search"])
    with pytest.raises(UserError, match=r"factory was '.*' and is now 'Flat'"):
        open_index(component("index", "faiss_flat"), Path(str(folder)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["index=faiss_ivf", "index.lists=100"], "learns 100 clusters from 12 vectors, which are too few"),
        (["index=faiss", "index.factory=nonsense"], "faiss makes no such index for inner products of 128 dimensions"),
        (["index=faiss_ivf_pq"], "learns codes of 256 values from 12 vectors"),
        (["index=milvus", "index.structure=DISKANN"], "Milvus Lite has only FLAT, HNSW, IVF_FLAT; choose one of them"),
        (["index=milvus", "index.uri=localhost:19530"], "is not the address of a Milvus server, such as http://"),
        (["index=milvus", "index.uri=http://me:secret@host:1"], "credentials belong into the environment variables"),
        (["index=milvus", "index.uri=http://127.0.0.1:9"], "Milvus at http://127.0.0.1:9: Fail connecting to server"),
        (["index=milvus", "index.partition=a/b"], "index.partition='a/b' is not a name for a partition of Milvus"),
        (["index=milvus", "index.structure=HNSW", "index.links=1"], "links=1 is out of range: Milvus takes 2 to 2,048"),
        (["index=plaid"], "the model makes dense vectors and Plaid takes vectors for each token"),
        (
            ["model=coil", "index=plaid"],
            "Plaid does not compare a vector with only those of the same token, .*index=coil",
        ),
        (["model=colbert", "index=coil"], "CoilIndex does not compare a vector with those of all tokens, .*=maxsim"),
        (["model=sbert", "index=bm25"], "makes dense vectors and BM25Index takes texts; index=faiss_flat is an exact"),
        (["model=colbert", "index=bm25"], "makes vectors for each token and BM25Index takes texts; index=maxsim is"),
        (["model=bm25", "index=faiss_flat"], "makes no vectors and Faiss takes dense vectors; index=bm25 is an exact"),
        (
            ["model=bm25", "index=sharded", "index@index.engine=bm25"],
            "does not support BM25, whose weights depend on all documents",
        ),
    ],
)
def test_an_engine_that_cannot_be_built_is_refused_before_anything_is_encoded(
    compose: Compose,
    tmp_path: Path,
    collection: Path,
    overrides: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error comes before hours of encoding, not after."""
    monkeypatch.setattr(milvus_collection, "_CONNECTING", 0.5)
    with pytest.raises(UserError, match=message):
        run(compose, settings(tmp_path, collection, *overrides))
    assert not list((tmp_path / "artifacts" / "encoding").glob("*/manifest.json"))


@pytest.mark.parametrize(("progress", "is_terminal"), [(True, True), (False, True), (True, False)])
def test_bm25_shows_progress_as_other_engines_do(
    compose: Compose,
    tmp_path: Path,
    collection: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    progress: bool,
    is_terminal: bool,
) -> None:
    """One progress bar per stage on a terminal, or none with machine.progress=false; none in a file."""
    monkeypatch.setattr("irexp.progress.is_terminal", lambda: is_terminal)
    overrides = settings(tmp_path, collection, "model=bm25", f"machine.progress={progress}")
    run(compose, overrides, ["index", "search"])
    lines = [line.split(":")[0].strip() for line in re.split("[\r\n]", capfd.readouterr().err) if line.strip()]
    assert set(lines) == ({"index", "search"} if progress and is_terminal else set())


def test_a_search_setting_that_the_faiss_index_lacks_is_refused(
    compose: Compose, tmp_path: Path, collection: Path
) -> None:
    """A flat index has no clusters to probe."""
    with pytest.raises(UserError, match=r"index.search.probes=4: an index Flat has no such setting"):
        run(compose, settings(tmp_path, collection, "index=faiss", "index.factory=Flat", "index.search.probes=4"))


@pytest.mark.parametrize(
    ("model", "indexes"),
    [
        ("colbert", ["maxsim", "plaid", "xtr", "muvera", "milvus_tokens"]),
        ("splade_doc", ["sparse", "seismic", "milvus_sparse"]),
        ("coil", ["coil"]),
        ("sbert", ["torch_dense", "binary", "faiss_hnsw", "faiss_sq", "milvus"]),
    ],
)
@pytest.mark.slow
def test_engines_share_an_encoding(
    compose: Compose, tmp_path: Path, collection: Path, model: str, indexes: list[str]
) -> None:
    """Every engine of a model goes from configuration to measures, and the collection is encoded once."""
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
    """The report has a table and a plot of the costs; an approximate search has a recall below 1."""
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


@pytest.mark.parametrize("model", ["sbert", "bm25"])
def test_excluded_documents_are_not_found(compose: Compose, tmp_path: Path, collection: Path, model: str) -> None:
    """A file of document ids makes another run; the index is not built again."""
    base = settings(tmp_path, collection, f"model={model}")
    whole = run(compose, base)
    (tmp_path / "gone.txt").write_text("d0\n\n d2\t\n")  # ids are read as everywhere
    without = run(compose, [*base, f"search.exclude_path={tmp_path / 'gone.txt'}"])
    assert (without["index"].status, without["search"].status) == ("already done", "made")
    found, kept = (
        [line.doc_id for line in read_run(Path(str(outcomes["search"].path)) / "test.run") if line.query_id == "d0"]
        for outcomes in (whole, without)
    )
    assert "d0" in found
    assert kept == [doc_id for doc_id in found if doc_id not in ("d0", "d2")]
