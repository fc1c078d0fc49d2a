"""The check of Hydra's own node, before Hydra builds objects from it."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from irexp.config.hydra_node import hydra_faults, place_faults
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def config() -> DictConfig:
    """The configuration with Hydra's own node."""
    register_resolvers()
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", return_hydra_config=True)
    OmegaConf.set_struct(composed, False)
    return composed


def test_a_place_where_nothing_can_be_written_is_named(config: DictConfig, tmp_path: Path) -> None:
    """Hydra would end with a traceback; a folder that does not exist yet is made."""
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        OmegaConf.update(config, key, str(tmp_path / "new" / "folder"))
        assert place_faults(config, key) == []
        place = tmp_path / "file"  # as root may write everywhere else
        place.touch()
        OmegaConf.update(config, key, f"{place}/outputs")
        (fault,) = place_faults(config, key)
        assert fault.startswith(f"{key}={place}/outputs: nothing can be written into {place}; set {key} to a folder")


def test_the_default_node_has_no_fault(config: DictConfig) -> None:
    """The sweep's report, the basic launcher and sweeper, and the logging handlers are accepted."""
    assert config.hydra.callbacks.sweep._target_ == "irexp.stage.sweep.SweepReport"
    assert hydra_faults(config) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("job_logging.handlers.console.class", "logging.handlers.MemoryHandler"),
        ("job_logging.handlers.console", {"()": "logging.NullHandler"}),
        ("hydra_logging.formatters.simple.class", "logging.Formatter"),
        ("hydra_logging.filters", {"mine": {"()": "logging.Filter", "name": "irexp"}}),
        ("job_logging.handlers.console.stream", "ext://sys.stdout"),
    ],
)
def test_classes_of_the_logging_module_are_accepted(config: DictConfig, key: str, value: Any) -> None:
    """A user can choose any handler, formatter and filter of the logging module in its section."""
    OmegaConf.update(config, f"hydra.{key}", value, merge=False, force_add=True)
    assert hydra_faults(config) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("job_logging.handlers.console.class", "os.system"),
        ("job_logging.handlers.console.class", "logging.os.system"),
        ("job_logging.handlers.console.class", "logging.Formatter"),
        ("job_logging.handlers.console.class", "logging.config.listen"),
        ("job_logging.handlers.console.class", "${hydra.job.name}"),
        ("job_logging.handlers.mine", {"()": "subprocess.call", "args": "true"}),
        ("hydra_logging.formatters.simple.class", "logging.StreamHandler"),
        ("hydra_logging.filters", {"mine": {"()": "pickle.loads"}}),
        ("job_logging.handlers.console.stream", "ext://os.system"),
        ("job_logging.handlers.console.queue", {"()": "os.system"}),
        ("job_logging.handlers.console.listener", "os.system"),
    ],
)
def test_any_other_callable_in_the_logging_setup_is_refused(config: DictConfig, key: str, value: Any) -> None:
    """`logging.config` would import and call it, and so run any code that a configuration names."""
    OmegaConf.update(config, f"hydra.{key}", value, merge=False, force_add=True)
    (fault,) = hydra_faults(config)
    assert fault.startswith(f"hydra.{key}")


@pytest.mark.parametrize(
    ("subdir", "is_right"),
    [
        ("${hydra.job.num}", True),
        ("${hydra.job.num}-${model.name}", True),
        ("${model.name}", False),
        ("${hydra.job.num}/x", False),
        ("${hydra.job.override_dirname}", False),
        ("${hydra.job.num}-${hydra.job.override_dirname}", False),
    ],
)
def test_each_job_has_a_folder_of_its_own(config: DictConfig, subdir: str, is_right: bool) -> None:
    """Directly below the sweep's, where the table and the list of failures look; and no relative path changes."""
    OmegaConf.update(config, "hydra.sweep.subdir", subdir)
    assert (hydra_faults(config) == []) == is_right
    OmegaConf.update(config, "hydra.job.chdir", True)
    assert any(fault.startswith("hydra.job.chdir=true: a relative path") for fault in hydra_faults(config))


def launcher(name: str, *overrides: str) -> DictConfig:
    """The configuration with a launcher."""
    register_resolvers()
    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", [f"hydra/launcher={name}", *overrides], return_hydra_config=True)
    OmegaConf.set_struct(composed, False)
    return composed


@pytest.mark.parametrize("name", ["basic", "graph", "ray", "slurm"])
def test_a_launcher_has_no_fault(name: str) -> None:
    """Its keys are those of its class, and its values are possible."""
    assert hydra_faults(launcher(name)) == []


@pytest.mark.parametrize(
    ("name", "override", "fault"),
    [
        ("graph", "workers=0", "workers: 0 is out of range; it must be at least 1"),
        ("graph", "shares=0", "shares: 0 is out of range; it must be at least 1"),
        ("graph", "workers=x", "workers: 'x' is not int"),
        ("ray", "retries=-1", "retries: -1 is out of range; it must be at least 0"),
        ("ray", "default.gigabytes=0", "default.gigabytes: 0.0 is out of range; it must be at least 0.1"),
        ("ray", "+stages.fit={minutes: 4}", "stages.fit.minutes: RayResources has no 'minutes'"),
        ("slurm", "seconds=0", "seconds: 0 is out of range; it must be at least 1"),
        ("slurm", "cluster=slrum", "cluster: 'slrum' is not 'slurm' or 'local'; did you mean slurm?"),
        ("slurm", "default.gpus=-1", "default.gpus: -1 is out of range; it must be at least 0"),
        (
            "slurm",
            "default.minutes=soon",
            "default.minutes: Value 'soon' of type 'str' could not be converted to Integer",
        ),
        ("slurm", "+default.memroy=1", "default.memroy: Resources has no 'memroy'; did you mean memory?"),
        ("slurm", "+stages.fit={cpus: 0}", "stages.fit.cpus: 0 is out of range; it must be at least 1"),
        ("slurm", "+stages.fit={cpu: 4}", "stages.fit.cpu: Resources has no 'cpu'; did you mean cpus?"),
        ("slurm", "+stages.fit=4", "stages.fit: must hold keys of minutes, memory, gpus, cpus, partition, extra"),
    ],
)
def test_a_wrong_value_of_a_launcher_is_one_fault(name: str, override: str, fault: str) -> None:
    """Known before any job is composed."""
    plus, key = ("+", override[1:]) if override.startswith("+") else ("", override)
    (found,) = hydra_faults(launcher(name, f"{plus}hydra.launcher.{key}"))
    assert found.startswith(f"hydra.launcher.{fault}")
