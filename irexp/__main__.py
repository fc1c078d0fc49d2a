"""The command line, `irexp --help`: compose a configuration, check it, run its stages."""

import gc
import sys

import hydra
from omegaconf import DictConfig

from irexp.config.command_line import check_arguments
from irexp.config.installation import CONF
from irexp.config.override import flags_first
from irexp.config.resolvers import register_resolvers
from irexp.config.schema import register_schema
from irexp.stage.output import running_sweep
from irexp.training.signals import is_stop, status_of, stopped_by_sigterm

register_resolvers()
register_schema()


def run(config: DictConfig) -> float | list[float] | None:
    """Run one job, in a sweep one of many; returns its objective to the sweeper."""
    from irexp.stage.job import run_job  # Lightning after Hydra has set up logging, and nothing heavy for --help

    if not gc.isenabled():  # at the first job: what is imported and composed need not be walked through any more
        gc.freeze()
        gc.enable()
    return run_job(config)


def main() -> None:
    """Check what was typed, and run it under Hydra; exits with 130 after SIGINT (Ctrl-C) and with 143 after SIGTERM."""
    gc.disable()  # until a job runs: the collector would walk again and again through what is composed, for nothing
    try:
        with stopped_by_sigterm():
            sys.argv[1:] = flags_first(sys.argv[1:])
            check_arguments(sys.argv[1:], CONF)
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(run)()
    except BaseException as error:
        if (folder := running_sweep()) is not None:  # its callback is not asked after an error of a launcher
            from irexp.stage.sweep import report_sweep

            report_sweep(folder, ended="stopped" if is_stop(error) else "lost")
        if isinstance(error, KeyboardInterrupt):
            sys.exit(status_of(error))
        raise


if __name__ == "__main__":
    main()
