"""Axes hold all values and have readable ticks."""

from __future__ import annotations

import pytest

from irexp.report_page.scale import linear, logarithmic, tick_text

VALUES = [[0.0, 1.0], [0.4211, 0.4213], [-0.3, 0.2], [5.0], [0.0], [1e-6, 2e-6], [3e4, 9e8]]


@pytest.mark.parametrize("values", VALUES)
def test_a_linear_axis_holds_all_values_between_different_ticks(values: list[float]) -> None:
    """The ends are ticks, and no two ticks have the same text."""
    scale = linear(values, 0, 100)
    assert scale.least <= min(values) <= max(values) <= scale.most
    assert (scale(scale.least), scale(scale.most)) == (0, 100)
    assert 2 <= len(scale.ticks) <= 8
    assert len({tick_text(tick) for tick in scale.ticks}) == len(scale.ticks)


@pytest.mark.parametrize("values", [[0.3], [2.2, 2.3], [1.0, 1000.0], [1e-3, 1e6], [4.0, 90.0]])
def test_a_logarithmic_axis_has_a_tick_for_any_values(values: list[float]) -> None:
    """Equal factors are equal distances."""
    scale = logarithmic(values, 0, 100)
    assert scale.least <= min(values) <= max(values) <= scale.most
    assert 1 <= len(scale.ticks) <= 12
    assert all(0 <= scale(tick) <= 100 for tick in scale.ticks)
    assert scale(2 * values[0]) - scale(values[0]) == pytest.approx(scale(8 * values[0]) - scale(4 * values[0]))
