"""How the errors of processes that share work are reported."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from irexp.types import UserError

#: The line of a traceback with an error's type, of irexp, torch or Optuna.
_RAISED = re.compile(r"^((?:irexp|torch|optuna)(?:\.\w+)+): ", re.MULTILINE)

#: How torch says that a process of a data loader was killed.
_LOADER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\)")


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise a UserError or out-of-memory error of a child process with its own type, and say if a child was killed.

    torch alone would give only the text of the child's traceback. If this process is stopped, the children that it
    started within the block are killed; otherwise Python would wait at its end until they have finished their work.
    """
    others = {child.pid for child in active_children()}
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for child in active_children():
            if child.pid not in others and not child.daemon:  # daemons end by themselves
                child.kill()
        raise
    except ProcessRaisedException as error:
        found = _last_error(error.msg)
        if found is None:
            raise
        raise found from None
    except ProcessExitedException as error:
        how = f"was killed ({error.signal_name})" if error.signal_name else f"ended with status {error.exit_code}"
        raise UserError(
            f"a process that shares the work {how}, for lack of memory if nobody ended it; use fewer "
            f"machine.devices or smaller batches. The same command resumes where this one stopped."
        ) from None
    except RuntimeError as error:
        if not (killed := _LOADER.search(str(error))):
            raise
        raise UserError(
            f"{killed[0]}, a process that prepares batches, was killed, for lack of memory if nobody ended it; set "
            f"machine.num_workers=0. The same command resumes where this one stopped."
        ) from None


def _last_error(traceback: str) -> Exception | None:
    """The error at the end of a traceback; None for others than UserError, TrialPruned and out of memory."""
    raised = [match for match in _RAISED.finditer(traceback)]
    if not raised or "\nTraceback (most recent call last):" in traceback[raised[-1].end() :]:
        return None
    module, _, name = raised[-1][1].rpartition(".")
    kind = getattr(importlib.import_module(module), name, None)
    if not isinstance(kind, type) or (
        not issubclass(kind, UserError | torch.OutOfMemoryError) and kind.__name__ != "TrialPruned"
    ):
        return None
    found: Exception = kind(traceback[raised[-1].end() :].rstrip("\n"))
    return found
