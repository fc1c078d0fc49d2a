"""Compose a configuration, check it, run its stages: `python run.py --help`."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema

register_resolvers()
register_schema()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Run one job; in a sweep, one of many."""
    from irexp.stage.job import run_job  # Lightning after Hydra has set up logging, and nothing heavy for --help

    run_job(config)


if __name__ == "__main__":
    from irexp.config.command_line import check_arguments

    check_arguments(sys.argv[1:], Path(__file__).parent / "conf")
    main()
