"""A search: what is varied and what is measured, checked before the first trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from irexp.artifact.content import digest_of
from irexp.artifact.experiment import Experiment, search_path
from irexp.artifact.identity import Identity
from irexp.artifact.objective import objective_names, own_row
from irexp.artifact.plan import Plan, draft_plan, make_plan
from irexp.config.built import built
from irexp.config.hydra_node import LAUNCHERS
from irexp.config.installation import CONF, program
from irexp.study.settings import Settings
from irexp.study.space import Space, parse_space
from irexp.types import UserError

#: The top-level keys that change no measure.
_NOT_CONTENT = ("hydra", "machine", "paths", "logger", "force", "dry_run", "confirm")


@dataclass(frozen=True)
class Search:
    """A search.

    Attributes:
        space: what is varied.
        objectives: the names of the measures that each job returns.
        digest: of everything that decides a trial's objective, except for its parameters.
        artifacts: the root folder of the artifacts.
        command: the words that start a job, before its overrides.
        is_dry: whether jobs only print their plans.
    """

    space: Space
    objectives: tuple[str, ...]
    digest: str
    artifacts: Path
    command: tuple[str, ...]
    is_dry: bool


def make_search(typed: Sequence[str], settings: Settings, config: DictConfig, loader: ConfigLoader) -> Search:
    """The search that a command describes.

    Args:
        typed: the overrides of the command line.
        settings: those of the sweeper.
        config: the configuration of the sweep, composed by Hydra.
        loader: composes those of its jobs.

    Raises:
        UserError: if nothing is swept, the directions do not fit the objectives, or a drawn job could not be planned.
    """
    from optuna.distributions import distribution_to_json

    settings.check()
    if settings.prune:
        _check_launcher(config)
    if config.machine.num_nodes > 1:
        raise UserError(
            f"machine.num_nodes={config.machine.num_nodes}: each node would draw trials of its own; search on one node"
        )
    space = parse_space(typed, settings.params, loader)
    objectives, measured = _objectives(space, settings, config, loader)
    folders = search_path(config.hydra.overrides.hydra)
    fixed = loader.load_configuration(config.hydra.job.config_name, [*folders, *space.fixed], RunMode.RUN)
    OmegaConf.set_struct(fixed, False)
    is_forced = fixed.hydra.mode == RunMode.MULTIRUN
    content = OmegaConf.masked_copy(fixed, [str(key) for key in fixed if key not in _NOT_CONTENT])
    parts = {
        "configuration": OmegaConf.to_container(content, resolve=False, enum_to_str=True),
        "swept": {key: distribution_to_json(each) for key, each in space.swept.items()},
        "measured": measured,  # by the content of their files and the versions of their stages
        "objectives": objectives,
        "directions": settings.directions,
    }
    return Search(
        space,
        tuple(objectives),
        digest_of(parts),
        Path(fixed.paths.artifacts),
        (*program().split(), *_flags(config), *folders, *(["hydra.mode=RUN"] if is_forced else [])),
        fixed.dry_run,
    )


def _objectives(
    space: Space, settings: Settings, config: DictConfig, loader: ConfigLoader
) -> tuple[list[str], list[str]]:
    """The names of the objectives and of the measured artifacts, by the plans of jobs that are drawn as samples.

    The samples are the same for every sampler and seed, of which a resumed study may have others: one at random, and
    those that differ from it in one choice, whose files may change. One that cannot be planned is left out.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution

    def drawn(parameters: Mapping[str, Any]) -> Experiment:
        overrides = space.overrides(parameters)
        job = loader.load_sweep_config(config, overrides)
        with open_dict(job):
            del job["hydra"]
        return Experiment(tuple(overrides), job)

    built(settings.sampler)(seed=settings.seed)  # whose faults come first
    sample = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(dict(space.swept))
    experiment = drawn(sample.params)
    plan = make_plan(experiment, experiment.stages)
    names = objective_names(plan, is_needed=True)
    if not names:
        raise UserError(
            f"stage={','.join(experiment.stages)} measures nothing to search for; add evaluate, or fit with validations"
        )
    if len(names) != len(settings.directions):
        raise UserError(
            f"hydra.sweeper.direction={','.join(settings.directions)}, but objective names {len(names)}: "
            f"{', '.join(names)}; give one direction for each, as [maximize,minimize]"
        )
    trained = {step for step in own_row(plan) if step.trains}
    if settings.prune and len(trained) > 1:
        raise UserError(
            f"hydra.sweeper.prune=true compares the validations of one fit per trial, and the columns train "
            f"{len(trained)} models; set hydra.sweeper.prune=false"
        )
    measured = _made(plan)
    for key, each in space.swept.items():
        for choice in each.choices if isinstance(each, CategoricalDistribution) else ():
            with suppress(UserError, HydraException):
                measured += _made(draft_plan(drawn({**sample.params, key: choice}), experiment.stages)[0])
    return names, list(dict.fromkeys(measured))


def _made(plan: Plan) -> list[str]:
    """The names of what a plan makes, without speed, which depends on the machine."""
    made = [step.artifact for step in plan.own if isinstance(step.artifact, Identity)]
    return [identity.name for identity in made if identity.kind != "speed"]


def _check_launcher(config: DictConfig) -> None:
    """Refuse to prune under a launcher that fits before the jobs run, in processes that know of no trial.

    Raises:
        UserError: naming the launcher.
    """
    if str(config.hydra.launcher._target_).startswith(LAUNCHERS):
        launcher = config.hydra.runtime.choices["hydra/launcher"]
        raise UserError(
            f"hydra.sweeper.prune=true cannot end a fit under hydra/launcher={launcher}, which makes checkpoints "
            f"before the jobs run; use hydra/launcher=basic, or set hydra.sweeper.prune=false"
        )


def _flags(config: DictConfig) -> list[str]:
    """The flags that say which files the configuration is composed from, besides conf/."""
    folders = {source.provider: source.path for source in config.hydra.runtime.config_sources}
    flags = {
        "--config-path": folders["main"] if Path(folders["main"]) != CONF else None,
        "--config-dir": folders.get("command-line"),
        "--config-name": config.hydra.job.config_name if config.hydra.job.config_name != "config" else None,
    }
    return [f"{flag}={value}" for flag, value in flags.items() if value is not None]
