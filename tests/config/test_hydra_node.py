"""The check of Hydra's own node, before Hydra builds objects from it."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from irexp.config.hydra_node import hydra_faults
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
