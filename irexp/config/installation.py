"""Where irexp is installed, and what to type there: in a clone, with `python run.py`; or from a wheel, as `irexp`.

The configuration is the folder conf/ at the top of a clone. In a wheel the same files are inside the package.
"""

import sys
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_IS_WHEEL = (_PACKAGE / "conf").is_dir()

#: The configuration's folder.
CONF = _PACKAGE / "conf" if _IS_WHEEL else _PACKAGE.parent / "conf"


def program() -> str:
    """What starts irexp in a shell, as this process was started."""
    return "irexp" if _IS_WHEEL or Path(sys.argv[0]).stem == "irexp" else "python run.py"


def install_command(extra: str) -> str:
    """What installs the packages of an extra of pyproject.toml."""
    return f'pip install "irexp[{extra}]"' if _IS_WHEEL else f'pip install -c constraints.txt -e ".[{extra}]"'
