"""A study on the disk: the trials of a search, in a file to which several processes may append.

Only one sweep at a time works on a study, so that trials which are still running when it begins are those of a sweep
that was killed.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from irexp.study.settings import Direction
from irexp.types import UserError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage
    from optuna.study import Study

log = logging.getLogger(__name__)

#: The name of the study in its file, which holds no other.
_NAME = "search"

#: The attribute of a study that tells searches apart.
_SEARCH = "search"

#: The attribute of a trial that repeats one of a killed sweep.
_REPEATS = "repeats"


@contextmanager
def open_study(
    folder: Path, search: str, *, directions: Sequence[Direction], sampler: Callable[..., BaseSampler], seed: int
) -> Iterator[Study]:
    """A study, new or resumed, of which this process has the only sweep.

    Trials of a killed sweep fail, and their settings are drawn first, so that a killed fit resumes.

    Args:
        folder: of the study.
        search: a digest of what is searched.
        directions: of the objectives.
        sampler: makes the sampler; called with a seed.
        seed: of the sampler, for a new study.

    Raises:
        UserError: if another process sweeps this study, or the folder holds the study of another search.
    """
    import optuna

    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        study = optuna.create_study(
            study_name=_NAME, storage=_storage(folder), load_if_exists=True, directions=list(directions)
        )
        if study.user_attrs.setdefault(_SEARCH, search) != search:
            raise UserError(f"hydra.sweeper.study={folder} holds the study of another search; name another folder")
        study.set_user_attr(_SEARCH, search)
        _repeat_killed(study)
        # a resumed sampler with the same seed would draw the same trials again
        study.sampler = sampler(seed=(seed + len(study.get_trials(deepcopy=False))) % 2**32)
        yield study


def load_study(folder: Path, pruner: BasePruner) -> Study:
    """A study that another process may be sweeping."""
    import optuna

    return optuna.load_study(study_name=_NAME, storage=_storage(folder), pruner=pruner)


def _storage(folder: Path) -> JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def _repeat_killed(study: Study) -> None:
    """Fail the trials that a killed sweep left running, and draw their settings again; once, since they may kill."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        if _REPEATS not in trial.user_attrs:
            log.info("trial %d was killed: its settings are tried again", trial.number)
            study.enqueue_trial(trial.params, user_attrs={_REPEATS: trial.number})


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a study, which is released even if the process is killed."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process sweeps the study in {folder}; wait for it, or start one with another "
                f"hydra.sweeper.study=<folder>"
            ) from None
        yield
