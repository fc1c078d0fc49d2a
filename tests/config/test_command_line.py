"""Every fault of a command line, in one message, with its nearest spelling."""

import shutil
from pathlib import Path

import pytest

from irexp.config.check import ConfigError
from irexp.config.command_line import check_arguments, check_command_line
from irexp.config.resolvers import register_resolvers

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_resolvers()


def _faults(*arguments: str, conf: Path = CONF) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check_command_line(arguments, str(conf))
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_all_faults_come_at_once() -> None:
    """A wrong option, group, key and value are four lines of one message."""
    assert _faults(
        "model=sbrt", "stag=search", "search.depht=4", "training.learning_rate=abc", "model.pooling=maen"
    ) == [
        "model=sbrt: there is no such option in conf/model; did you mean sbert?",
        "stag: there is no such key; did you mean stage?",
        "search.depht: there is no such key; did you mean depth?",
        "training.learning_rate: Value 'abc' of type 'str' could not be converted to Float",
        "model.pooling: 'maen' is not one of 'mean', 'cls', 'last', 'max', 'mean_sqrt_len', 'weighted_mean'"
        "; did you mean mean?",
    ]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("+training.learnin_rate=1", "Training has no 'learnin_rate'; did you mean learning_rate?"),
        ("model.k1=0.9", "did you mean index.k1?"),
        ("stage=[serch,evaluate]", "did you mean search?"),
        ("model._target_=builtins.open", "outside of what a configuration may name"),
        ("model._target_=irexp.model.dense.Dens", "cannot be found"),
        ("+model.nothing=1", "has no 'nothing'"),
        ("dataset=local", "dataset.path: needs a value"),
        ("evaluation.measures=[RR(rel=2)@10]", "quote what has brackets"),
        ("~search.deep", "~search.deep"),
    ],
)
def test_a_single_fault(argument: str, words: str) -> None:
    """Each kind of fault says what is wrong and what was probably meant."""
    with_bm25 = ["model=bm25"] if argument.startswith("model.k1") else []
    assert any(words in fault for fault in _faults(*with_bm25, argument))


def test_every_job_of_a_sweep_is_checked_before_the_first_runs() -> None:
    """The third choice of a sweep does not fail after hours of the first two."""
    faults = _faults("-m", "model=sbert,bm25,splad", "search.depth=10,x")
    assert any("model=splad" in fault for fault in faults)
    assert any(fault.startswith("search.depth: Value 'x'") for fault in faults)


def test_faults_in_files_are_named_too(tmp_path: Path) -> None:
    """A misspelt key in an experiment, which Hydra accepts, is named with all the others."""
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "experiment").mkdir(exist_ok=True)
    (conf / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntraining: {learnin_rate: 1}\nmodel: {poling: cls}\nserch: {depth: 5}\n"
    )
    faults = _faults("experiment=mine", conf=conf)
    assert any("training.learnin_rate" in fault and "learning_rate?" in fault for fault in faults)
    assert any("model.poling" in fault and "pooling?" in fault for fault in faults)
    assert any("serch" in fault and "search?" in fault for fault in faults)


@pytest.mark.parametrize(
    "arguments",
    [(), ("model=bm25",), ("stage=[index,search]",), ("-m", "model=sbert,bm25", "seed=1,2"), ("+hydra.verbose=true",)],
)
def test_what_is_right_passes(arguments: tuple[str, ...]) -> None:
    """No false alarm: with one fault added, that fault is all there is."""
    check_command_line(arguments, str(CONF))
    assert _faults(*arguments, "seeed=1") == ["seeed: there is no such key; did you mean seed?"]


def test_printing_flags_are_left_to_hydra() -> None:
    """`--help` is not checked, so that it always answers."""
    check_arguments(["--help", "model=nonsense"], CONF)
    with pytest.raises(SystemExit, match="did you mean sbert"):
        check_arguments(["model=sbrt"], CONF)
