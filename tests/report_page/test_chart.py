"""Charts show every value, however many there are."""

from __future__ import annotations

import re

import pytest

from irexp.report_page.chart import MOST_BARS, MOST_POINTS, Dot, Series, bar_chart, cost_chart, line_chart, thinned


def test_a_thinned_line_has_the_means_of_neighbours() -> None:
    """Groups are nearly equal, and together they hold every point."""
    points = [(float(n), float(n % 7)) for n in range(1001)]
    found = thinned(points, 10)
    assert len(found) == 10
    assert found[0] == pytest.approx((49.5, sum(n % 7 for n in range(100)) / 100))
    assert thinned(points, 2000) == points


def test_a_higher_value_is_drawn_higher() -> None:
    """The vertical axis of SVG points down."""
    svg = line_chart([Series(0, "a", ((0.0, 1.0), (10.0, 3.0)))], x_name="steps", y_name="loss")
    ((first, last),) = [re.findall(r"[\d.]+ ([\d.]+)", path) for path in re.findall(r'<path d="M([^"]+)"', svg)]
    assert float(first) > float(last)
    many = line_chart([Series(0, "a", tuple((float(n), 1.0) for n in range(9999)))], x_name="steps", y_name="loss")
    assert many.count("L") < MOST_POINTS


def test_a_bar_rises_for_a_gain_and_falls_for_a_loss() -> None:
    """Both start at the line of zero; more bars than fit are merged."""
    svg = bar_chart([("a", 0.5), ("b", 0.0), ("c", -0.25)], x_name="queries", y_name="difference")
    bars = {
        kind: (float(top), float(height))
        for top, height, kind in re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)" class="(\w+)"', svg)
    }
    assert bars["gain"][0] + bars["gain"][1] == pytest.approx(bars["loss"][0], abs=0.02)
    assert bars["gain"][1] == pytest.approx(2 * bars["loss"][1], abs=0.02)
    assert bars["tie"][0] == bars["loss"][0]
    many = bar_chart([(str(n), 1.0 - n / 4000) for n in range(7000)], x_name="queries", y_name="difference")
    assert many.count("<rect") == MOST_BARS


def test_a_row_has_the_same_colour_in_every_chart() -> None:
    """The row's number decides the class of its colour; after seven rows also the shape and the dashes."""
    line = line_chart([Series(9, "a", ((0.0, 1.0), (10.0, 3.0)))], x_name="steps", y_name="loss")
    dot = cost_chart([Dot(9, "a", 1.0, 0.5)], [(1.0, 0.5)], x_name="ms", y_name="nDCG@10")
    assert 'class="line c2" stroke-dasharray="7 3"' in line
    assert re.search(r'<polygon points="[^"]+" class="mark c2">', dot)
