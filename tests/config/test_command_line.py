"""Every fault of a command line, in one message, with its nearest spelling."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from irexp.config.check import ConfigError
from irexp.config.command_line import _package_faults, check_arguments, check_command_line
from irexp.config.override import flags_first
from irexp.config.resolvers import register_resolvers

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_resolvers()


def _faults(*arguments: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        check_command_line(arguments, CONF)
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_one_message_lists_every_fault() -> None:
    """With one fault per message, a command with four would have to be typed five times."""
    assert _faults(
        "model=sbrt", "stag=search", "search.depht=4", "training.learning_rate=abc", "model.pooling=maen"
    ) == [
        "model=sbrt: there is no such option in conf/model; did you mean sbert?",
        "stag: there is no such key; did you mean stage?",
        "search.depht: there is no such key; did you mean depth?",
        "training.learning_rate: Value 'abc' of type 'str' could not be converted to Float",
        "model.pooling: 'maen' is not one of 'mean', 'cls', 'last', 'max', 'mean_sqrt_len', 'weighted_mean', a list of "
        "them; did you mean mean?",
    ]
    assert _faults("loss=listnet", "model.querylength=3", "training.stepps=2", "training.steps=-5") == [
        "loss=listnet: there is no such option in conf/loss; did you mean list_net?",
        "model.querylength: there is no such key; did you mean query_length?",
        "training.stepps: there is no such key; did you mean steps?",
        "training.steps: -5 is out of range; it must be at least 0",
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
        ("evaluation.measures=[RR(rel=2)@10]", "quote a value with brackets"),
        ("force=search", "force: search is not a list; write force=[search]"),
        ('rows={a: ["model=bm25"], b: [], a: []}', "rows: 'a' is there twice; give each its own name"),
        ("columns={a b: [], a b: []}", "columns: 'a b' is there twice"),
        ("~search.deep", "~search.deep: there is no such key"),
        ("~search.depth", "search.depth: Search needs it"),
        ("~model", "model: needs a value"),
        ("loss=null", "loss=null: there is no such option"),
        ("seed=1,2", "seed=1,2: several values are a sweep, which needs -m"),
        ("loss._target_=torch.load", "is not allowed here: it must be irexp.loss.loss.Loss"),
        ("hydra/launcher=joblb", "hydra/launcher=joblb: there is no such option"),
        ("hydra.jb.name=x", "hydra.jb.name: there is no such key"),
        ("hydra.verbose.x=1", "hydra.verbose.x: "),
        ("hydra.searchpath=3", "hydra.searchpath must be a list of strings"),
        ("hydra.launcher._target_=os.system", "hydra.launcher._target_: os.system is outside"),
        ("+hydra.callbacks.x={_target_:subprocess.call}", "hydra.callbacks.x._target_: subprocess.call is outside"),
        ("hydra.job_logging.handlers.console.class=os.system", "handlers.console.class: os.system is not allowed here"),
        ("--config-name=nothing", "Cannot find primary config 'nothing'"),
        ("--config-path=/nothing", "Primary config directory not found"),
        ("--config-path=mine", f"--config-path=mine: must be absolute: --config-path={Path.cwd() / 'mine'}"),
        ("--config-dir=nothing", "--config-dir=nothing: there is no such folder"),
    ],
)
def test_each_kind_of_fault_is_explained(argument: str, words: str) -> None:
    """The message says what is wrong and, where possible, what was probably meant."""
    with_bm25 = ["model=bm25"] if argument.startswith("model.k1") else []
    assert any(words in fault for fault in _faults(*with_bm25, argument))


@pytest.mark.parametrize(
    ("argument", "sweep"),
    [
        ("dataset=[trec_dl_2019,trec_dl_2020]", "-m dataset=trec_dl_2019,trec_dl_2020"),
        ("+dataset=[vaswani, cranfield]", "-m dataset=vaswani,cranfield"),
        ("model=[bm25,sbert]", "-m model=bm25,sbert"),
        ("evaluation=[beir,default]", "-m evaluation=beir,default"),
        ("logger=[csv,wandb]", "-m logger=csv,wandb"),
        ("experiment=[cascade,hybrid]", "-m experiment=cascade,hybrid"),
    ],
)
def test_a_list_of_options_is_refused_with_the_sweep_that_was_meant(argument: str, sweep: str) -> None:
    """Hydra would lay the options over one another, so that the last one wins without a word."""
    group = sweep.removeprefix("-m ").partition("=")[0]
    expected = f"{argument}: a job takes one option of {group}; sweep over several with {sweep}"
    assert _faults(argument) == [expected]


def test_a_list_of_options_in_a_file_is_refused(tmp_path: Path) -> None:
    """The defaults of a file can list several, too."""
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults: [override /dataset: [cranfield, vaswani]]\n")
    assert _faults(f"--config-dir={tmp_path}", "experiment=mine") == [
        "dataset: a file lists several options, of which a job takes one; keep one in its defaults"
    ]
    file.write_text("# @package _global_\ndefaults: [override /stage: [index, search]]\n")
    check_command_line([f"--config-dir={tmp_path}", "experiment=mine"], CONF)


def test_every_job_of_a_sweep_is_checked_before_the_first_runs() -> None:
    """A fault in the third choice is not found only after hours of the first two."""
    faults = _faults("-m", "model=sbert,bm25,splad", "search.depth=10,x")
    assert any("model=splad" in fault for fault in faults)
    assert any(fault.startswith("search.depth: Value 'x'") for fault in faults)


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        (
            "training.learning_rate=interval(-1,1e-3)",
            "training.learning_rate: -1.0 is out of range; it must be at least 0",
        ),
        ("training.steps=interval(1,1)", "training.steps: Value '1.0' of type 'float' could not be converted"),
        ("schedule.warmup=-1", "schedule.warmup: -1 is out of range; it must be at least 0"),
        ("optimizer.weight_decay=-0.1", "optimizer.weight_decay: -0.1 is out of range; it must be at least 0"),
        ("search.depth=range(0,10)", "search.depth: 0 is out of range; it must be at least 1"),
        ("search.depth=tag(a,choice(1,2,0))", "search.depth: 0 is out of range; it must be at least 1"),
        ("seed=shuffle(choice(1,x,2))", "seed: Value 'x' of type 'str' could not be converted to Integer"),
        ("loss=choice(lce,lc)", "loss=lc: there is no such option in conf/loss; did you mean lce?"),
        ("loss=glob(zz*)", "loss=glob(zz*): this chooses no value"),
        ("loss=range(1,2)", "loss=1: there is no such option in conf/loss; there are"),
    ],
)
def test_each_kind_of_sweep_is_checked(argument: str, fault: str) -> None:
    """Intervals and ranges are checked at their ends, globs by their matches; no kind of sweep escapes the check."""
    found = [line for line in _faults("-m", argument) if "takes no interval" not in line]
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_an_interval_needs_a_sweeper_that_samples() -> None:
    """The basic sweeper would fail later; the message names one that does not."""
    (fault,) = _faults("-m", "training.learning_rate=interval(1e-5,1e-3)")
    assert "hydra/sweeper=optuna" in fault


def test_an_option_that_sets_the_sweep_is_refused_among_several(further: Path) -> None:
    """Hydra reads hydra.sweeper.params of none of them, and would run each option once, without a word."""
    typed = [f"--config-dir={further}", "-m"]
    (fault,) = _faults(*typed, "experiment=sweeping,hybrid")
    assert fault.startswith("experiment=sweeping: it sets hydra.sweeper, which is ignored where several options are")
    assert fault.endswith("run it by itself, with -m experiment=sweeping")
    check_command_line([*typed, "experiment=cascade,hybrid"], CONF)


def test_a_sweeper_whose_package_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra would show the traceback of an import."""
    monkeypatch.setitem(sys.modules, "optuna", None)  # what find_spec takes for not installed
    config = OmegaConf.load(CONF / "hydra" / "sweeper" / "optuna.yaml")
    (fault,) = _package_faults(OmegaConf.create({"hydra": {"sweeper": config}}))
    assert fault.startswith("hydra/sweeper=optuna needs the package optuna: pip install")


def test_a_sweeper_that_samples_takes_intervals() -> None:
    """Whole numbers, too, which are checked as such."""
    optuna = ["-m", "hydra/sweeper=optuna"]
    check_command_line([*optuna, "training.learning_rate=interval(1e-5,1e-3)", "seed=tag(int,interval(1,9))"], CONF)
    check_command_line([*optuna, "training.steps=int(interval(1,9))", "model=glob(s*)"], CONF)


@pytest.fixture
def further(tmp_path: Path) -> Path:
    """A folder of option files outside conf/, with an experiment that has several faults."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: irexp.model.splade.SPLADE\npoling: max\n")
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /model: mine]\ntraining: {learnin_rate: 1}\nserch: {depth: 5}\n"
        "hydra: {callbacks: {x: {_target_: os.system}}}\n"
    )
    (tmp_path / "experiment" / "sweeping.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {model: 'sbert,bm26', seed: '1,x', search.depth: 0}}}\n"
    )
    (tmp_path / "experiment" / "broken.yaml").write_text("# @package _global_\nseed: [1\n")
    return tmp_path


@pytest.mark.parametrize("typed", ["--config-dir={}", "-cd={}", "hydra.searchpath=[file://{}]"])
def test_faults_in_files_of_another_folder_are_listed(further: Path, typed: str) -> None:
    """Hydra accepts misspelt keys in files; here they are listed with all other faults, and options get suggestions."""
    faults = _faults(typed.format(further), "experiment=mine", "loss=lc")
    assert [fault.partition(":")[0] for fault in faults] == [
        "loss=lc",
        "hydra.callbacks.x._target_",
        "serch",
        "training.learnin_rate",
        "model.poling",
        "model.backbone",
    ]
    assert "did you mean mine?" in _faults(typed.format(further), "model=mne")[0]


def test_another_primary_configuration_is_checked(tmp_path: Path) -> None:
    """Faults are found in the files of --config-path and --config-name."""
    shutil.copytree(CONF, tmp_path / "mine")
    (tmp_path / "mine" / "other.yaml").write_text("defaults: [config, _self_]\nsearch: {depht: 3}\n")
    (fault,) = _faults(f"--config-path={tmp_path / 'mine'}", "--config-name", "other")
    assert fault.startswith("search.depht:")
    check_command_line([f"--config-path={tmp_path / 'mine'}"], CONF)


def test_the_sweep_of_a_file_is_checked_like_a_typed_one(further: Path) -> None:
    """It is checked only in a sweep, and only for keys that are not typed, since those replace it."""
    folder = f"--config-dir={further}"
    check_command_line([folder, "experiment=sweeping"], CONF)
    for sweep in ("-m", "hydra.mode=MULTIRUN"):
        assert [fault.partition(":")[0] for fault in _faults(folder, sweep, "experiment=sweeping")] == [
            "model=bm26",
            "seed",
            "search.depth",
        ]
    check_command_line([folder, "-m", "experiment=sweeping", "model=dpr,bm25", "seed=3", "search.depth=5"], CONF)


def test_an_unreadable_file_is_named_with_its_line(further: Path) -> None:
    """A syntax error in a YAML file is a fault, not a traceback."""
    (fault,) = _faults(f"--config-dir={further}", "experiment=broken")
    assert "broken.yaml" in fault
    assert "line 3" in fault


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("model=bm25",),
        ("stage=[index,search]",),
        ("-m", "model=sbert,bm25", "seed=1,2"),
        ("+hydra.verbose=true",),
        ("-m", "model=glob(bm*)", "search.depth=range(1,100000)", "seed=tag(x,choice(1,2))"),
        ("++index.lists=5", "hydra.job.name=mine", "~experiment", "adapter=lora", "logger=wandb"),
        ("-m", "model.query_prompt='a, b','c'"),
        ("--run", "index=sharded", "index@index.engine=plaid"),
    ],
)
def test_a_right_command_line_has_no_fault(arguments: tuple[str, ...]) -> None:
    """There is no false alarm, and after adding one fault, it is the only one."""
    check_command_line(arguments, CONF)
    assert _faults(*arguments, "seeed=1") == ["seeed: there is no such key; did you mean seed?"]


def test_flags_may_stand_between_overrides() -> None:
    """Hydra's parser takes them before or after all overrides, and answers with its usage."""
    typed = ["model=bm25", "--config-dir=mine", "seed=1,2", "-m", "--config-name", "other", "search.depth=5"]
    flags = ["--config-dir=mine", "-m", "--config-name", "other"]
    assert flags_first(typed) == [*flags, "model=bm25", "seed=1,2", "search.depth=5"]


def test_a_recipe_that_trains_is_not_silently_untrained() -> None:
    """The steps that a recipe sets win over an option; those that are typed over both."""
    arguments = ("training=none", "experiment=hard_negatives")
    (fault,) = _faults(*arguments)
    assert fault.startswith("training=none: another file sets training.steps=150 after it")
    assert fault.endswith("; add training.steps=0")
    check_command_line([*arguments, "training.steps=0"], CONF)


@pytest.mark.parametrize(
    "flags", [["--help"], ["--cfg", "job"], ["-c", "job", "--resolve"], ["--info=all"], ["--hydra-help"]]
)
def test_printing_flags_are_left_to_hydra(flags: list[str]) -> None:
    """`--help` is not checked, so that it always answers; a command that runs something is."""
    check_arguments([*flags, "model=nonsense"], CONF)
    with pytest.raises(SystemExit, match="did you mean sbert"):
        check_arguments(["model=sbrt"], CONF)


@pytest.mark.parametrize(
    "options",
    [["loss=listnet"], ["adapter=lora", "model=splade", "model.poling=max"], ["loss._target_=torch.func.vmap"]],
)
def test_a_wrong_option_is_answered_without_torch(options: list[str]) -> None:
    """A misspelling is reported without waiting seconds for imports, whatever components the configuration names."""
    code = (
        f"import sys; sys.argv = ['run.py', *{options}]; import runpy\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as error: print(error)\n"
        "heavy = {'torch', 'lightning', 'transformers', 'peft', 'faiss', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=True)
    first, fault, last = done.stdout.splitlines()
    assert first == "ConfigError: this configuration cannot be run:"
    assert fault.startswith((f"  {options[0]}:", f"  {options[-1].partition('=')[0]}:"))
    assert last == "[]"
