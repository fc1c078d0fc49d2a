"""LaTeX compiles the tables that irexp writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from irexp.evaluation.table import Result, make_table
from tests.evaluation.results import measured

PAGE = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_a_table_of_two_collections_with_special_characters_compiles(tmp_path: Path) -> None:
    """Every character that LaTeX reserves, letters beyond ASCII, bold, daggers and a header of two lines."""
    labels = ["BM25", r"a & b_c 100 % #1 $x$ {y} ~z ^w \v <u> |t|", "[x, y]", "*"]
    rows = [
        Result(label, measured(offset=0.1 * number, seed=seed), column=column, seed=seed)
        for number, label in enumerate(labels)
        for column in ("Touché", "A_1")
        for seed in (1, 2)
    ]
    text = make_table(rows).to_latex()
    (tmp_path / "table.tex").write_text(PAGE % text, encoding="utf8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode("latin1")[-2000:]
