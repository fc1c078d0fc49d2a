"""Learning-rate schedules: the factor of each optimizer step, up linearly over the warm-up and then as named."""

import math


def linear_warmup(step: int, *, steps: int, warmup: float = 0.1) -> float:
    """Down linearly to zero.

    Args:
        step: the optimizer step, from 0.
        steps: all of them.
        warmup: a fraction of the steps below 1, else steps.

    >>> [linear_warmup(step, steps=6, warmup=2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    rising = _warmup_steps(steps, warmup)
    return (step + 1) / rising if step < rising else 1 - _progress(step, steps, rising)


def constant(step: int, *, steps: int, warmup: float = 0) -> float:
    """Constant behind the warm-up.

    >>> [constant(step, steps=4, warmup=2) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    rising = _warmup_steps(steps, warmup)
    return min(1.0, (step + 1) / rising) if rising else 1.0


def cosine(step: int, *, steps: int, warmup: float = 0.1) -> float:
    """Down by half a cosine, to zero.

    >>> [round(cosine(step, steps=5, warmup=1), 3) for step in range(6)]
    [1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    rising = _warmup_steps(steps, warmup)
    return (step + 1) / rising if step < rising else 0.5 * (1 + math.cos(math.pi * _progress(step, steps, rising)))


def _warmup_steps(steps: int, warmup: float) -> int:
    return round(warmup * steps) if warmup < 1 else int(warmup)


def _progress(step: int, steps: int, rising: int) -> float:
    """How far behind the warm-up, between 0 and 1."""
    return min(1.0, (step - rising) / max(1, steps - rising))
