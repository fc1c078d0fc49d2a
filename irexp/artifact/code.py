"""What stands in an identity for the code of a component that is not irexp's.

irexp's own code enters by the versions of its stages and of some of its classes, which are raised by hand. Of a package
that was declared (`irexp.config.packages`) nobody raises them, so a component of it enters with its version; where no
version says that the code changed, which is so on PYTHONPATH and in an editable installation, with a digest of its
source.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from irexp.config.packages import is_declared
from irexp.config.source import Module, UnreadableError, find, read


@functools.cache
def code_of(path: str) -> str:
    """The distribution and version that a component was installed with, or a digest of its source.

    The digest is taken over the module that defines the component and all of declared packages that it imports, in
    turn, at its top.

    Args:
        path: of a class or function of a declared package.
    """
    files = _files(path)
    return _version(path, files[0]) or f"source {_digest(files)}"


def _files(path: str) -> list[Path]:
    """The file that defines a component, then those that it imports."""
    try:
        definition = find(path)
    except UnreadableError:  # a compiled module, or a name that is made at run time
        module, _, name = path.rpartition(".")
        component = getattr(import_module(module), name)
        return [Path(inspect.getfile(sys.modules[component.__module__]))]
    assert definition is not None, path  # the configuration was checked
    modules = {definition.module.name: definition.module}
    waiting = [definition.module]
    while waiting:
        new = {module.name: module for module in _imported(waiting.pop()) if module.name not in modules}
        modules |= new
        waiting += new.values()
    return [module.file for module in modules.values()]


def _imported(module: Module) -> Iterator[Module]:
    """The modules of declared packages that one imports, by themselves or for a name in them."""
    for path in [*module.stars, *(value for value in module.names.values() if isinstance(value, str))]:
        for name in (path, path.rpartition(".")[0]):
            try:
                found = read(name) if is_declared(name) else None
            except UnreadableError:
                continue  # a compiled module imports nothing that could be read
            if found is not None:
                yield found


def _version(path: str, file: Path) -> str | None:
    """The name and version of the distribution that put a file where it is; None if none did."""
    for name in packages_distributions().get(path.partition(".")[0], ()):
        found = distribution(name)
        recorded = [Path(str(found.locate_file(each))) for each in found.files or () if each.name == file.name]
        if any(each.resolve() == file.resolve() for each in recorded):
            return f"{found.name} {found.version}"
    return None


def _digest(files: list[Path]) -> str:
    """Sixteen hexadecimal digits of SHA-256 over the contents, whatever the files are called."""
    contents = sorted(hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]
