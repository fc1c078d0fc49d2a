"""Learning-rate schedules: the factor at each optimizer step, which rises linearly in the warm-up, then as named."""

import math


def linear_warmup(step: int, *, steps: int, warmup: float = 0.1) -> float:
    """Linear decay to zero after the warm-up.

    Args:
        step: the optimizer step, from 0.
        steps: the total number of steps.
        warmup: a fraction of the steps if below 1, else a number of steps.

    >>> [linear_warmup(step, steps=6, warmup=2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    rising = _warmup_steps(steps, warmup)
    return (step + 1) / rising if step < rising else 1 - _progress(step, steps, rising)


def constant(step: int, *, steps: int, warmup: float = 0) -> float:
    """Constant after the warm-up.

    >>> [constant(step, steps=4, warmup=2) for step in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    rising = _warmup_steps(steps, warmup)
    return min(1.0, (step + 1) / rising) if rising else 1.0


def cosine(step: int, *, steps: int, warmup: float = 0.1) -> float:
    """Cosine decay to zero after the warm-up.

    >>> [round(cosine(step, steps=5, warmup=1), 3) for step in range(6)]
    [1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    rising = _warmup_steps(steps, warmup)
    return (step + 1) / rising if step < rising else 0.5 * (1 + math.cos(math.pi * _progress(step, steps, rising)))


def cosine_restarts(step: int, *, steps: int, warmup: float = 0.1, cycles: int = 3) -> float:
    """Several cosine decays after the warm-up, each from the peak to zero (SGDR, arXiv:1608.03983).

    >>> [round(cosine_restarts(step, steps=9, warmup=1, cycles=2), 3) for step in range(10)]
    [1.0, 1.0, 0.854, 0.5, 0.146, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    rising = _warmup_steps(steps, warmup)
    if step < rising:
        return (step + 1) / rising
    progress = _progress(step, steps, rising)
    return 0.5 * (1 + math.cos(math.pi * (cycles * progress % 1.0))) if progress < 1 else 0.0


def _warmup_steps(steps: int, warmup: float) -> int:
    return round(warmup * steps) if warmup < 1 else int(warmup)


def _progress(step: int, steps: int, rising: int) -> float:
    """The completed fraction of the steps after the warm-up, between 0 and 1."""
    return min(1.0, (step - rising) / max(1, steps - rising))
