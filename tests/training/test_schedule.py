"""Learning-rate schedules."""

import doctest

from irexp.training import schedule


def test_the_examples_in_the_docstrings_hold() -> None:
    """Each schedule returns the numbers of its docstring."""
    result = doctest.testmod(schedule)
    assert (result.failed, result.attempted) == (0, 4)


def test_without_a_warm_up_the_first_step_is_the_peak() -> None:
    """A warm-up of zero steps must not divide by zero."""
    for function in (schedule.linear_warmup, schedule.constant, schedule.cosine):
        assert function(0, steps=10, warmup=0) == 1.0
