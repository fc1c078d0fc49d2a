"""Measured values for the tests of tables."""

import random

from irexp.evaluation.measures import Measured


def measured(*, offset: float, seed: int, queries: int = 40) -> Measured:
    """Values around 0.5 + offset for RR@10, and half of them for AP."""
    generator = random.Random(seed)
    values = {f"q{i}": 0.5 + offset + generator.gauss(0, 0.05) for i in range(queries)}
    halves = {query_id: value / 2 for query_id, value in values.items()}
    return Measured(
        {"RR@10": values, "AP": halves},
        {"RR@10": sum(values.values()) / queries, "AP": sum(halves.values()) / queries},
        0,
        0,
    )
