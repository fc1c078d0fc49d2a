"""The whole page: its content as records, and the HTML that shows it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from irexp.evaluation.plot import Point, front
from irexp.evaluation.table import MEAN, Table
from irexp.report_page import table as tables
from irexp.report_page.chart import MOST_POINTS, Dot, Series, cost_chart, line_chart
from irexp.report_page.difference import Difference, differences
from irexp.report_page.graph import Node, lineage_graph
from irexp.report_page.mark import swatch
from irexp.report_page.markup import Html, element, joined
from irexp.report_page.origin import Command, Made, commands, provenance
from irexp.report_page.study import Study, study
from irexp.report_page.style import SCRIPT, STYLE


@dataclass(frozen=True)
class Costs:
    """What stage=speed measured of the rows of a collection.

    Attributes:
        collection: its name.
        measure: the measure that costs are compared with.
        points: each with the number of its row, which has several if it was measured in several places.
        note: on seeds that were averaged, if any.
    """

    collection: str
    measure: str
    points: Sequence[tuple[int, Point]]
    note: str = ""


@dataclass(frozen=True)
class Content:
    """What a page shows.

    Attributes:
        table: the results.
        made: a line on when and by what the page was made.
        curves: the lines of each training, by the name of what was measured.
        costs: of each collection with measured searches.
        differences: between two rows, the first is shown first.
        left_out: the number of comparisons of two rows that the page does not hold.
        nodes: the artifacts of the lineage.
        left_out_measures: the number of measures that the lineage, the commands and the provenance leave out.
        commands: those that make the rows again.
        provenance: of all artifacts in the lineage.
        study: the search that a sweep made; None without one.
    """

    table: Table
    made: str
    curves: Mapping[str, Sequence[Series]]
    costs: Sequence[Costs]
    differences: Sequence[Difference]
    left_out: int
    nodes: Mapping[str, Node]
    left_out_measures: int
    commands: Sequence[Command]
    provenance: Sequence[Made]
    study: Study | None = None


def page(content: Content) -> str:
    """The page as one file: a content security policy lets it load nothing and run only its own script."""
    sections = {
        "Results": tables.results(content.table),
        "Search for settings": study(content.study) if content.study else None,
        "Comparisons": tables.comparisons(content.table),
        "Learning curves": _curves(content),
        "Effectiveness and cost": _costs(content),
        "Differences by query": _differences(content),
        "Lineage": _lineage(content),
        "Commands": commands(content.commands) if content.commands else None,
        "Provenance": provenance(content.provenance) if content.provenance else None,
    }
    shown = {title: body for title, body in sections.items() if body is not None}
    links = [element("a", title, href=f"#{_anchor(title)}") for title in shown]
    collections = ", ".join(name for name in content.table.collections if name)
    count = len(content.table.rows)
    title = f"{collections}: {count} row{'s' if count > 1 else ''}"
    bodies = [element("section", element("h2", title), body, id=_anchor(title)) for title, body in shown.items()]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    made = element("p", content.made, class_="quiet")
    script = element("script", Html(SCRIPT))
    body = element("body", element("h1", title), made, element("nav", *links), *bodies, script)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _curves(content: Content) -> Html | None:
    """One chart per measure, and one legend."""
    if not content.curves:
        return None
    charts = [line_chart(series, x_name="optimizer steps", y_name=name) for name, series in content.curves.items()]
    lines = [one for series in content.curves.values() for one in series]
    notes = [
        "Each line is a training; rows of the same checkpoint share one. Losses of different functions, and "
        "validations of different collections, cannot be compared."
    ]
    if any(len(one.points) > MOST_POINTS for one in lines):
        notes.append(f"Lines of more than {MOST_POINTS} points show means of neighbouring ones.")
    legend = _legend(sorted({one.row: one.label for one in lines}.items()))
    return joined(legend, element("div", *charts, class_="charts"), element("p", " ".join(notes), class_="foot"))


def _costs(content: Content) -> Html | None:
    """For each collection effectiveness over time, and over the size of the index."""
    if not content.costs:
        return None
    parts: list[Html] = []
    for one in content.costs:
        charts = []
        for name, costs in (
            ("milliseconds per query, one at a time", [point.milliseconds for _, point in one.points]),
            ("bytes per document", [point.bytes_per_document for _, point in one.points]),
        ):
            dots = [
                Dot(row, point.label, cost, point.effectiveness)
                for (row, point), cost in zip(one.points, costs, strict=True)
                if cost > 0  # an axis of logarithms has no place for nothing, nor for what is not known
            ]
            if dots:
                best = front([(dot.cost, dot.value) for dot in dots])
                charts.append(cost_chart(dots, best, x_name=name, y_name=f"{one.collection} {one.measure}".strip()))
        legend = _legend([(row, point.label) for row, point in one.points])
        parts += [legend, element("div", *charts, class_="charts")]
        parts += [element("p", one.note, class_="foot")] if one.note else []
    note = "Dashed: the rows that no other beats on both cost and effectiveness. Encoding queries is not counted."
    return joined(*parts, element("p", note, class_="foot"))


def _differences(content: Content) -> Html | None:
    if not content.differences:
        return None
    labels = [row.label for row in content.table.rows]
    titles = [
        tables.column_title(content.table, column) for column in content.table.columns if column.collection != MEAN
    ]
    return differences(content.differences, labels, titles, content.left_out)


def _lineage(content: Content) -> Html | None:
    if not content.nodes:
        return None
    note = (
        "Made from left to right; the last eight characters of a name are the digest of all that decides its content."
    )
    if any(node.is_given for node in content.nodes.values()):
        note += " Dashed: given, not in this store."
    if content.left_out_measures:
        note += f" {content.left_out_measures} measures are left out, here and below, to keep the page small."
    return joined(element("div", lineage_graph(content.nodes), class_="scroll"), element("p", note, class_="foot"))


def _legend(labels: Iterable[tuple[int, str]]) -> Html:
    items = [element("li", swatch(row), " ", label) for row, label in labels]
    return element("ul", *items, class_="legend")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
