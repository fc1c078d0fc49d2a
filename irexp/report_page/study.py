"""A search for the best settings: its history, which settings mattered, the best trials' commands, and all trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from irexp.report_page.chart import history_chart, share_chart
from irexp.report_page.markup import Html, element, joined
from irexp.report_page.table import plain_table

#: The most trials that a page lists.
TRIALS = 1000


@dataclass(frozen=True)
class Trial:
    """A trial.

    Attributes:
        number: of the trial.
        state: complete, pruned, fail …
        values: its objectives; None if it is not complete.
        seconds: how long it took; None if it was not recorded.
        settings: the drawn values, as they are typed.
    """

    number: int
    state: str
    values: tuple[float, ...] | None
    seconds: float | None
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """A search.

    Attributes:
        objectives: the names of what is searched for.
        directions: maximize or minimize, for each.
        trials: all trials, in their order.
        importance: by objective the share of its variance that each setting explains; without those that are not known.
        best: of each best trial its values in words, and the command that runs it by itself.
    """

    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    trials: tuple[Trial, ...]
    importance: Mapping[str, Mapping[str, float]]
    best: tuple[tuple[str, str], ...]


def study(found: Study) -> Html:
    """The charts, the best commands, and the trials, which can be opened."""
    histories = [
        history_chart(points, is_highest=direction == "maximize", y_name=name)
        for position, (name, direction) in enumerate(zip(found.objectives, found.directions, strict=True))
        if (points := [(one.number, one.values[position]) for one in found.trials if one.values is not None])
    ]
    shares = [
        share_chart(sorted(share_of.items(), key=lambda item: -item[1]), name=f"importance for {name}")
        for name, share_of in found.importance.items()
    ]
    notes = ["The line is the best so far."] if histories else []
    if shares:
        notes.append("Importance: the share of the objective's variance that a setting explains, by fANOVA.")
    return joined(
        element("div", *histories, *shares, class_="charts"),
        element("p", " ".join(notes), class_="foot"),
        *(_command(words, text) for words, text in found.best),
        _trials(found),
    )


def _command(words: str, text: str) -> Html:
    button = element("button", "Copy", type="button", class_="copy script", hidden="")
    head = element("p", element("b", "Best: "), words, " ", button)
    return element("div", head, element("pre", element("code", text)), class_="command")


def _trials(found: Study) -> Html:
    keys = list(dict.fromkeys(key for one in found.trials for key in one.settings))
    rows = [
        [
            *(str(one.number), one.state, *(one.settings.get(key, "") for key in keys)),
            *(f"{value:.4f}" for value in one.values or ()),
            *("" for _ in found.objectives if one.values is None),
            f"{one.seconds:,.1f}" if one.seconds is not None else "",
        ]
        for one in found.trials[-TRIALS:]
    ]
    table = plain_table(["trial", "state", *keys, *found.objectives, "seconds"], rows, left=2 + len(keys))
    last = f"The last {TRIALS} of {len(found.trials)}" if len(found.trials) > TRIALS else f"All {len(found.trials)}"
    return element("details", element("summary", f"{last} trials"), table)
