"""Mining, teaching and going on from a first round are planned with everything else, and made by one command."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from irexp import load, mine, open_examples, score
from irexp.artifact.lineage import Lineage
from irexp.artifact.plan import Plan, Step
from irexp.artifact.store import MissingArtifactError, Store
from irexp.dataset.mining import EXAMPLES
from irexp.evaluation.run_file import read_run
from irexp.stage.label import labels
from irexp.types import UserError
from tests.chains import TEXTS, Compose, name_of, planned, run, write_collection

NAMES = ["fit", "encode", "index", "search", "re_rank", "evaluate"]

#: A cross-encoder, trained for two steps.
MONO = '["model=mono","training.steps=2","training.validate_every=null","training.batch_size=3","negatives.depth=4"]'

MINED = ["negatives=mined", "negatives.depth=6", f"negatives.scores={MONO}", "negatives.absolute_margin=0.0"]
TAUGHT = [*MINED, f"teacher.scores={MONO}", "loss=margin_mse", "model.similarity=dot"]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A dozen documents in BEIR's layout; BM25 cannot find the relevant document of t2."""
    queries = {"q0": "make cups", "q1": "list songs", "t0": "delete a tree", "t1": "copy a song", "t2": "unknown words"}
    judged = {"test": "q0\td0\t1\nq1\td5\t1\n", "train": "t0\td7\t1\nt1\td11\t1\nt2\td2\t1\n"}
    return write_collection(tmp_path / "toys", queries, judged)


@pytest.fixture
def settings(tmp_path: Path, collection: Path) -> list[str]:
    """The overrides of a short training on the collection."""
    return [
        "dataset=local",
        f"dataset.path={collection}",
        "dataset.dev=null",
        "dataset.query_length=12",
        "dataset.document_length=16",
        "training.steps=2",
        "training.batch_size=3",
        "training.validate_every=null",
        f"paths.artifacts={tmp_path / 'artifacts'}",
        "machine.progress=false",
        "machine.threads=1",
        "baselines=[]",
    ]


def stages(plan: Plan) -> list[str]:
    """The stage and the model of each step, in order."""
    return [
        f"{step.stage.name} {step.name.partition('/')[2].partition('.')[0]}"
        for step in plan.steps
        if step.stage is not None and step.artifact is not None
    ]


def made(plan: Plan) -> set[Step]:
    """The steps of other experiments that train and are made."""
    return {step for step in plan.makes if step.trains and step.experiment is not plan.experiment}


def test_train_mine_score_and_train_again_is_one_plan(compose: Compose, settings: list[str]) -> None:
    """The filter and the teacher are one model, so that its scores are one artifact, made before they are used."""
    plan = planned(compose, [*settings, *TAUGHT], NAMES)
    assert stages(plan) == [
        *("index bm25", "search bm25", "fit mono", "score mono", "mine bm25", "fit sbert"),
        *("encode sbert", "index sbert", "search sbert", "evaluate sbert"),
    ]
    (fitted,) = [step for step in plan.own if step.stage and step.stage.name == "fit"]
    assert [name for name, _ in fitted.before] == ["examples", "scores"]
    assert fitted.inputs["negatives"] is None  # mined ones are not drawn from the run again
    for step in plan.steps:
        if step.stage is not None and step.name.startswith(("scores", "examples", "checkpoint/mono")):
            typed = planned(compose, list(step.experiment.overrides), [step.stage.name])
            assert [goal.name for goal in typed.own] == [step.name]  # as stage=show says


def test_each_part_of_mining_and_teaching_has_its_part_in_the_names(compose: Compose, settings: list[str]) -> None:
    """A filter changes examples and checkpoint, not the scores; another teacher changes all three."""

    def names(*overrides: str) -> dict[str, str]:
        plan = planned(compose, [*settings, *TAUGHT, *overrides], NAMES)
        kinds = ("examples", "scores", "checkpoint")
        return {step.name.partition("/")[0]: step.name for step in plan.steps if step.name.startswith(kinds)}

    base = names()
    assert {name.partition(".")[0] for name in base.values()} == {"examples/bm25", "scores/mono", "checkpoint/sbert"}
    changed = {
        "negatives.absolute_margin=0.5": {"examples", "checkpoint"},
        "negatives.count=1": {"checkpoint"},
        "negatives.depth=5": {"examples", "scores", "checkpoint"},
        "seed=3": {"scores", "examples", "checkpoint"},  # of the teacher
    }
    for override, expected in changed.items():
        found = names(override)
        assert {kind for kind in base if found[kind] != base[kind]} == expected, override


def test_only_a_random_sample_depends_on_the_seed(compose: Compose, settings: list[str]) -> None:
    """The best negatives of a run are the same for every seed."""
    mined = [*settings, 'negatives.candidates=["model=bm25"]', "negatives.depth=6", "negatives.keep=2"]
    top, random = ["negatives.keep_by=top"], ["negatives.keep_by=random"]
    found = [
        name_of(planned(compose, [*mined, *more], ["mine"]), "examples")
        for more in (top, [*top, "seed=3"], random, [*random, "seed=3"])
    ]
    assert found[0] == found[1] and len({*found}) == 3


def test_fit_trains_its_teacher_and_its_first_round_but_not_the_model_of_its_candidates(
    compose: Compose, settings: list[str]
) -> None:
    """What a training learns from and begins from was asked for with it; a run is made only without training."""
    assert len(made(planned(compose, [*settings, *TAUGHT], ["fit"]))) == 1
    first = 'artifact.initial=["model=sbert","negatives=bm25","training.validate_every=null"]'
    assert len(made(planned(compose, [*settings, first], ["fit"]))) == 1
    assert not made(planned(compose, [*settings, first], ["index", "search"]))
    assert not made(planned(compose, [*settings, *TAUGHT], ["mine"]))
    dense = ['negatives.candidates=["model=sbert","training.validate_every=null"]', "negatives.depth=4"]
    assert not made(planned(compose, [*settings, *dense], ["fit"]))
    assert len(made(planned(compose, [*settings, *dense], NAMES))) == 1


def test_two_rounds_share_the_checkpoint_of_the_first(compose: Compose, settings: list[str]) -> None:
    """The second begins with the first's weights and with the negatives that it finds (ANCE)."""
    first = '["model=sbert","negatives=bm25","training.steps=2","training.validate_every=null"]'
    second = [
        f"artifact.initial={first}",
        f"negatives.candidates={first}",
        "negatives.depth=6",
        "negatives.keep=3",
    ]
    plan = planned(compose, [*settings, *second], ["fit"])
    assert Counter(stages(plan))["fit sbert"] == 2
    assert [name for name in stages(plan) if name.startswith(("fit", "mine"))] == [
        "fit sbert",
        "mine sbert",
        "fit sbert",
    ]
    (fitted,) = plan.own
    (initial,) = [step for name, step in fitted.before if name == "initial"]
    assert initial.trains and initial in plan.makes


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (
            ["negatives.keep=3", "loss=margin_mse"],
            [
                r"negatives\.keep: there is no run to mine from; set negatives\.candidates=\[model=bm25\]",
                r"has only relevance; set teacher=mono",
            ],
        ),
        (
            [
                *('negatives.candidates=["model=bm25"]', "negatives.depth=50", "negatives.skip=90"),
                *("negatives.min_score=2", "negatives.max_score=1", "negatives.keep_by=random"),
            ],
            [
                r"negatives\.skip=90 leaves no rank of negatives\.depth=50; skip fewer",
                r"min_score=2.* is above .*max_score=1",
                r"random draws negatives\.keep of them",
            ],
        ),
        (
            [
                *('negatives.candidates=["model=bm25"]', "negatives.depth=50", 'negatives.scores=["model=bm25"]'),
                *("teacher.scores=nowhere.run", 'artifact.initial=["model=bm25"]'),
            ],
            [
                r"stage=score: bm25 has no checkpoint",
                r"teacher\.scores=nowhere\.run: there is nothing at",
                r"artifact\.initial=\[model=bm25\]: this experiment makes no checkpoint",
            ],
        ),
        (
            ["artifact.initial={a: 1, b: 2}"],
            [r"initial: .* neither a list of overrides, such as \[model=bm25\], nor the"],
        ),
        (["negatives=mined", "negatives.keep_by=best"], [r"negatives\.keep_by: 'best' is not a choice"]),
        (['teacher.scores=["model=mono","dataset=aws_howto"]'], [r"must score this experiment's dataset\.train"]),
    ],
)
def test_what_cannot_be_mined_or_taught_is_refused_before_anything_begins(
    compose: Compose, settings: list[str], overrides: list[str], messages: list[str]
) -> None:
    """One line for each fault says what is wrong and how to fix it."""
    with pytest.raises(UserError) as error:
        planned(compose, [*settings, *overrides], ["fit"])
    assert [message for message in messages if not re.search(message, str(error.value))] == []


def test_a_stage_that_has_nothing_to_do_says_why(compose: Compose, settings: list[str]) -> None:
    """`stage=mine` names the keys that filter."""
    for overrides, message in (
        (["negatives=none"], r"candidates=null: there is no run to mine from"),
        (["negatives=bm25"], r"without a filter \(negatives\.scores, .*\) training draws from the run itself"),
        (["negatives=mined", "training.steps=0"], "nothing is trained"),
    ):
        with pytest.raises(UserError, match=message):
            planned(compose, [*settings, *overrides], ["mine"])
    with pytest.raises(UserError, match="the dataset has no training examples"):
        planned(compose, [*settings, "dataset.train=null", "model=mono", "training=none"], ["score"])


def test_scores_cover_the_positives_that_the_first_stage_missed(
    compose: Compose, settings: list[str], tmp_path: Path
) -> None:
    """`stage=score` scores examples and candidates as the model does; from Python the same."""
    overrides = [*settings, "model=mono", "training=none", "score=bm25", "score.depth=3"]
    outcome = run(compose, overrides, ["fit", "score"])
    found = {
        (line.query_id, line.doc_id): line.score for line in read_run(Path(str(outcome["score"].path)) / "test.run")
    }
    assert {("t0", "d7"), ("t1", "d11"), ("t2", "d2")} <= found.keys()
    assert [pair for pair in found if pair[0] == "t2"] == [("t2", "d2")]  # BM25 finds nothing for it
    assert all(sum(query_id == each for query_id, _ in found) == 3 for each in ("t0", "t1"))
    scorer = load(str(outcome["fit"].path), query_length=12, document_length=16)
    assert found["t2", "d2"] == pytest.approx(scorer.score("unknown words", [TEXTS[2]]).item(), abs=1e-5)
    again = score(scorer, open_examples(tmp_path / "toys"), tmp_path / "toys")
    assert {(line.query_id, line.doc_id) for line in again} == {("t0", "d7"), ("t1", "d11"), ("t2", "d2")}


@pytest.mark.slow
def test_one_command_trains_mines_scores_and_trains_again(
    compose: Compose, settings: list[str], tmp_path: Path
) -> None:
    """The targets of the student are the teacher's scores of the negatives that passed the filter."""
    outcome = run(compose, [*settings, *TAUGHT], NAMES)
    assert set(outcome) == {"fit", "encode", "index", "search", "evaluate"}
    lineage = Lineage(Store(tmp_path / "artifacts"))
    (examples,) = [folder for name, folder in lineage.folders.items() if name.startswith("examples/")]
    (scores,) = [folder for name, folder in lineage.folders.items() if name.startswith("scores/")]
    score_of = {(line.query_id, line.doc_id): line.score for line in read_run(scores / "test.run")}
    lines = [json.loads(line) for line in (examples / EXAMPLES).read_text().splitlines()]
    assert [line[:2] for line in lines] == [["t0", "d7"], ["t1", "d11"], ["t2", "d2"]]
    for query_id, positive, *negatives in lines:
        assert all(score_of[query_id, negative] <= score_of[query_id, positive] for negative in negatives)
    recorded = lineage.manifests[f"examples/{examples.name}"]["provenance"]["measures"]
    assert recorded["kept"] == sum(len(line) - 2 for line in lines) > 0
    name = f"measures/{Path(str(outcome['evaluate'].path)).name}"
    assert labels([name], lineage) == ["sbert"]
    again = run(compose, [*settings, *TAUGHT], NAMES)
    assert {found.status for found in again.values()} == {"already done"}
    given = run(compose, [*settings, *TAUGHT, f"teacher.scores={scores / 'test.run'}"], ["fit"])
    one, other = load(str(outcome["fit"].path)), load(str(given["fit"].path))
    for before, after in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(before, after)  # the same scores, named by their file
    python = mine(
        open_examples(tmp_path / "toys"),
        [folder / "test.run" for name, folder in lineage.folders.items() if name.startswith("run/bm25")],
        scores=scores / "test.run",
        depth=6,
        absolute_margin=0.0,
        keep=20,
    )
    assert [[python[n].query.query_id, *python[n].doc_ids] for n in range(len(python))] == lines


@pytest.mark.slow
def test_a_second_round_begins_with_the_weights_of_the_first(compose: Compose, settings: list[str]) -> None:
    """Without a step of its own it is the first round's checkpoint; with steps it differs from that."""
    first = '["model=sbert","negatives=bm25","training.steps=2","training.validate_every=null","training.batch_size=3"]'
    begun = [*settings, f"artifact.initial={first}", "training.steps=0"]
    plan = planned(compose, begun, ["fit"])
    with pytest.raises(MissingArtifactError, match=r"there is no checkpoint/sbert.*negatives=bm25"):
        run(compose, begun, ["fit"])  # nothing is trained here, so nothing else is trained unasked
    second = [*settings, f"artifact.initial={first}", f"negatives.candidates={first}", "negatives.depth=6"]
    fitted = run(compose, [*second, "negatives.keep=3"], NAMES)["fit"]
    (before,) = {step.name for _, step in plan.own[0].before}
    root = plan.experiment.root
    same = run(compose, begun, ["fit"])["fit"]
    initial = load(str(root / before)).state_dict()
    assert all(torch.equal(value, initial[key]) for key, value in load(str(same.path)).state_dict().items())
    changed = load(str(fitted.path)).state_dict()
    assert any(not torch.equal(value, initial[key]) for key, value in changed.items())
