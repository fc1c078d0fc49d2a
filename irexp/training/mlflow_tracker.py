"""MLflow as a tracker: its store, its runs, and the names that it allows."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import MLFlowLogger

from irexp.artifact.disk import hold_lock
from irexp.types import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: How often a request is repeated, and the variable of MLflow that says it, until its store has answered once.
_RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

#: Words in the names of an address's parameters that hold a secret.
_SECRET = re.compile("password|passwd|pwd|token|secret|key", re.IGNORECASE)


class MlflowTracker(MLFlowLogger):
    """Lightning's logger for MLflow, with names that MLflow allows: `test/nDCG_10` for `test/nDCG@10`."""

    def __init__(
        self, experiment: str, name: str, tracking_uri: str, tags: dict[str, str], resumed: str | None
    ) -> None:
        """A new run, or the one with the id `resumed`."""
        super().__init__(experiment, run_name=name, tracking_uri=tracking_uri, tags=tags, run_id=resumed)
        self._is_resumed = resumed is not None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, under names that MLflow allows."""
        super().log_metrics({allowed_by_mlflow(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration; not again when a run is resumed, since MLflow's parameters cannot change."""
        if not (self._is_resumed and self.experiment.get_run(self.run_id).data.params):
            super().log_hyperparams(_renamed(params))


def allowed_by_mlflow(name: str) -> str:
    """A name of a metric, parameter or file with `_` for what MLflow does not allow in it.

    A part of which more than the `@` of a measure is replaced ends in a digest, so that two names stay two.

    >>> allowed_by_mlflow("test/nDCG@10"), allowed_by_mlflow("test/ours (large)/nDCG@10")
    ('test/nDCG_10', 'test/ours _large_ 14f1/nDCG_10')
    """
    return "/".join(map(_allowed_part, name.split("/")))


def _allowed_part(part: str) -> str:
    is_name = bool(part.strip("."))  # ".." leads out of a folder
    with_at = re.sub(r"[^\w. @-]", "_", part, flags=re.ASCII) if is_name else "_"  # Lightning drops other letters
    digest = "" if with_at == part else f" {hashlib.sha256(part.encode()).hexdigest()[:4]}"
    return with_at.replace("@", "_") + digest


def _renamed(params: Any) -> Any:
    """The same nested values under keys that MLflow allows, such as those of `rows`, which a user names."""
    if not isinstance(params, dict):
        return params
    return {allowed_by_mlflow(str(key)): _renamed(value) for key, value in params.items()}


def check_address(uri: str) -> None:
    """Refuse an address with a password, which would be recorded with every artifact, unless a variable holds it.

    Raises:
        UserError: saying where the password belongs.
    """
    if shown_address(uri) != uri and uri not in os.environ.values():
        raise UserError(
            f"logger.tracking_uri={shown_address(uri)} holds a secret, which would be recorded with every artifact: "
            f"set the environment variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, or one "
            f"with the whole address, and logger.tracking_uri='${{oc.env:MLFLOW_TRACKING_URI}}'"
        )


def shown_address(uri: str) -> str:
    """An address with `***` in place of the password, and of parameters that hold one.

    >>> shown_address("mysql://me:mine@host/runs?ssl_key=a&charset=utf8")
    'mysql://me:***@host/runs?ssl_key=***&charset=utf8'
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    hidden = [value for name, value in parse_qsl(parts.query) if _SECRET.search(name)]
    for secret in filter(None, hidden):
        uri = uri.replace(f"={secret}", "=***")
    return uri.replace(f":{parts.password}@", ":***@") if parts.password else uri


@contextmanager
def opening_store(uri: str, experiment: str) -> Iterator[MlflowClient]:
    """A client, while no other process of this machine makes the same store: two that make its tables at once may fail.

    Raises:
        UserError: if the store or the experiment cannot be opened.
    """
    from mlflow.tracking import MlflowClient

    digest = hashlib.sha256(f"{Path.cwd()} {uri}".encode()).hexdigest()[:16]
    shown = shown_address(uri)
    with hold_lock(Path(tempfile.gettempdir()) / f"irexp-mlflow-{digest}.lock", f"the store {shown}"):
        is_set = _RETRIES[0] in os.environ
        os.environ.setdefault(*_RETRIES)
        try:
            yield MlflowClient(uri)
        except UserError:
            raise
        except Exception as error:  # of MLflow, of the database's driver, or of the connection
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise UserError(
                f"logger.tracking_uri={shown}, logger.experiment={experiment}: MLflow cannot open it: {reason}; "
                f"correct the address, or start the server"
            ) from error
        finally:
            if not is_set:
                del os.environ[_RETRIES[0]]
