"""Where numbers come from: the command that makes each row again, and when, where and with what artifacts were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irexp.report_page.mark import swatch
from irexp.report_page.markup import Html, element, joined
from irexp.report_page.table import plain_table


@dataclass(frozen=True)
class Command:
    """What makes the measures of a row in a column again.

    Attributes:
        row: the number of the row.
        label: of the row.
        measures: the name of the measures.
        text: the command, for a shell.
    """

    row: int
    label: str
    measures: str
    text: str


@dataclass(frozen=True)
class Made:
    """When an artifact was made, how long it took, and where.

    Attributes:
        name: of the artifact.
        finished: when.
        seconds: how long it took.
        memory: the largest memory of the process in MiB; None if it was not recorded.
        environment: commit, hardware and versions by name, equal for artifacts that were made alike.
    """

    name: str
    finished: str
    seconds: float
    memory: float | None
    environment: Mapping[str, str]


def commands(found: Sequence[Command]) -> Html:
    """Each command in a box of its own, with a button that copies it where scripts run."""
    parts: list[Html] = []
    for one in found:
        button = element("button", "Copy", type="button", class_="copy script", hidden="")
        head = element(
            "p",
            swatch(one.row),
            " ",
            element("b", one.label),
            " ",
            element("span", one.measures, class_="id"),
            " ",
            button,
        )
        parts.append(element("div", head, element("pre", element("code", one.text)), class_="command"))
    return joined(*parts)


def provenance(found: Sequence[Made]) -> Html:
    """A table of all artifacts, and one of the environments they were made in, each environment once."""
    environments: list[Mapping[str, str]] = []
    for one in found:
        if one.environment not in environments:
            environments.append(one.environment)
    rows = [
        [
            element("code", one.name),
            one.finished.replace("T", " ")[:19],
            f"{one.seconds:,.1f}",
            "" if one.memory is None else f"{one.memory:,.0f}",
            str(environments.index(one.environment) + 1),
        ]
        for one in found
    ]
    total = f"{sum(one.seconds for one in found):,.0f} s in all."
    artifacts = plain_table(["artifact", "made (UTC)", "seconds", "MiB at most", "environment"], rows, left=2)
    return joined(artifacts, element("p", total, class_="foot"), _environments(environments))


def _environments(found: Sequence[Mapping[str, str]]) -> Html:
    """What differs between environments as a table, and what is the same in all as a sentence."""
    names = list(dict.fromkeys(name for one in found for name in one))
    values = {name: [one.get(name, "") for one in found] for name in names}
    same = [name for name in names if len(set(values[name])) == 1]
    numbers = [str(number) for number in range(1, len(found) + 1)]
    lines = [[name, *values[name]] for name in names if name not in same]
    table = plain_table(["environment", *numbers], lines, left=len(numbers) + 1) if lines else ""
    where = "In all environments" if len(found) > 1 else "The environment"
    sentence = f"{where}: {', '.join(f'{name} {values[name][0]}' for name in same)}."
    return joined(table, element("p", sentence, class_="foot"))
