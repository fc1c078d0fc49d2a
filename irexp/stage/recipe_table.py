"""The tables of experiments/README.md: each recipe with paper and command, each claim with what was measured."""

from __future__ import annotations

import re

from irexp.stage import claim
from irexp.stage.claim import HERE, Claim, names, read_claims
from irexp.stage.recorded import Cell, read_cells
from irexp.types import UserError

_BEGIN, _END = "<!-- table:begin -->\n", "<!-- table:end -->\n"


def write_table() -> None:
    """Write the tables of all experiments into experiments/README.md.

    Raises:
        UserError: if the README of one lacks a line that they show.
    """
    path = claim.EXPERIMENTS / "README.md"
    before, _, rest = path.read_text(encoding="utf8").partition(_BEGIN)
    path.write_text(f"{before}{_BEGIN}{tables()}{_END}{rest.partition(_END)[2]}", encoding="utf8")


def tables() -> str:
    """The tables of all experiments, in Markdown."""
    recipes = ["| experiment | paper | command | claims |", "| --- | --- | --- | --- |"]
    values = [
        "| experiment | row | measure | expected | source | measured | | minutes | when | where | commit |",
        "| --- | --- | --- | ---: | --- | ---: | --- | ---: | --- | --- | --- |",
    ]
    for name in names():
        cells = {(cell.row, cell.column): cell for cell in read_cells(name)}
        lines = [_line(one, cells.get((one.row, one.column))) for one in read_claims(name).values]
        states = [line[5] for line in lines]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        link = f"[{name}]({name}/README.md)"
        run, source = bullet(name, "Run"), bullet(name, "Source")
        recipes.append(f"| {link} | {_text(source)} | `{_command(name, run)}` | {counts} |")
        for number, line in enumerate(lines):
            values.append(f"| {' | '.join(['' if number else link, *line])} |")
    return "\n".join([*recipes, "", *values]) + "\n"


def bullet(name: str, title: str) -> str:
    """The text of a line `- title: …` of an experiment's README, with the lines that continue it.

    Raises:
        UserError: if there is none.
    """
    path = claim.EXPERIMENTS / name / "README.md"
    text = path.read_text(encoding="utf8") if path.is_file() else ""
    found = re.search(rf"^- {title}: (.*(?:\n  .*)*)", text, re.MULTILINE)
    if found is None:
        raise UserError(f"{path} has no line `- {title}: …`; write it, as in the README of another experiment")
    return " ".join(found.group(1).split())


def _command(name: str, run: str) -> str:
    """The first command of a text."""
    found = re.search("`([^`]+)`", run)
    if found is None:
        raise UserError(f"{claim.EXPERIMENTS / name / 'README.md'}: its line `- Run: …` names no command in backquotes")
    return found.group(1)


def _line(one: Claim, cell: Cell | None) -> list[str]:
    """The values of a claim's line, without the experiment."""
    claimed = [_text(one.row), one.place, f"{one.value:.4f}", _text(one.source)]
    if cell is None or one.measure not in cell.measures:
        return [*claimed, "", "not recorded" if one.source == HERE else "not run", "", "", "", ""]
    value = cell.measures[one.measure]
    seeds = f" ({len(cell.seeds)} seeds)" if len(cell.seeds) > 1 else ""
    minutes = "" if cell.minutes is None else f"{cell.minutes:.1f}"
    made = [minutes, cell.date, _text("; ".join(cell.machines)), ", ".join(cell.commits)]
    return [*claimed, f"{value:.4f}{seeds}", one.status(value), *made]


def _text(text: str) -> str:
    return text.replace("|", r"\|")
