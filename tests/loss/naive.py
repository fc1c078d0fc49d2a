"""Each loss over a query's own documents as loops over its formula: lists of scores and targets in, a number out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

Rows = list[list[float]]
#: The present documents of a query: pairs of score and target.
Row = list[tuple[float, float]]


def rows_of(scores: Rows, targets: Rows) -> Iterator[Row]:
    """The documents with a target, query by query."""
    for row, target in zip(scores, targets, strict=True):
        yield [(s, t) for s, t in zip(row, target, strict=True) if not math.isnan(t)]


def ordered_rows(scores: Rows, targets: Rows) -> list[Row]:
    """The queries with documents of different targets."""
    return [row for row in rows_of(scores, targets) if len({t for _, t in row}) > 1]


def mean(values: list[float]) -> float:
    """Their mean; 0 without any."""
    return sum(values) / max(1, len(values))


def list_net(scores: Rows, targets: Rows) -> float:
    """- sum of p log q."""
    losses = []
    for row in rows_of(scores, targets):
        p, q = sum(math.exp(t) for _, t in row), sum(math.exp(s) for s, _ in row)
        losses.append(-sum(math.exp(t) / p * math.log(math.exp(s) / q) for s, t in row))
    return mean(losses)


def list_mle(scores: Rows, targets: Rows) -> float:
    """The sum over documents of the log-likelihood of drawing each before those that are not above it."""
    losses = []
    for row in ordered_rows(scores, targets):
        lowest = min(t for _, t in row)
        losses.append(sum(math.log(sum(math.exp(z) for z, u in row if u <= t)) - s for s, t in row if t > lowest))
    return mean(losses)


def p_list_mle(scores: Rows, targets: Rows) -> float:
    """The same, weighted by 2^(n - rank) - 1 over the sum of these weights."""
    losses = []
    for row in ordered_rows(scores, targets):
        lowest = min(t for _, t in row)
        total, weights = 0.0, 0.0
        for s, t in row:
            if t > lowest:
                weight = 2.0 ** (len(row) - 1 - sum(u > t for _, u in row)) - 1
                weights += weight
                total += weight * (math.log(sum(math.exp(z) for z, u in row if u <= t)) - s)
        losses.append(total / weights)
    return mean(losses)


def gains(row: Row) -> list[float]:
    """2^t - 1 over the ideal DCG."""
    ideal = sorted((2.0**t - 1 for _, t in row), reverse=True)
    dcg = sum(gain / math.log2(1 + rank) for rank, gain in enumerate(ideal, start=1))
    return [(2.0**t - 1) / dcg for _, t in row]


def lambda_loss(scores: Rows, targets: Rows) -> float:
    """The sum over ordered pairs, with positions by the scores and mu = 10."""
    losses = []
    for row in ordered_rows(scores, targets):
        gain = gains(row)
        rank = [1 + sum(z > s for z, _ in row) for s, _ in row]
        total = 0.0
        for i, (s, t) in enumerate(row):
            for j, (z, u) in enumerate(row):
                if t > u:
                    rho = abs(1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j]))
                    apart = abs(rank[i] - rank[j])
                    delta = abs(1 / math.log2(1 + apart) - 1 / math.log2(2 + apart))
                    total += (rho + 10 * delta) * abs(gain[i] - gain[j]) * math.log2(1 + math.exp(z - s))
        losses.append(total)
    return mean(losses)


def approximate_ranks(row: Row) -> list[float]:
    """1 + the sum over the other documents of a sigmoid."""
    return [
        1 + sum(1 / (1 + math.exp(s - z)) for j, (z, _) in enumerate(row) if j != i) for i, (s, _) in enumerate(row)
    ]


def approx_ndcg(scores: Rows, targets: Rows) -> float:
    """1 - NDCG by approximate ranks."""
    return mean(
        [
            1 - sum(g / math.log2(1 + r) for g, r in zip(gains(row), approximate_ranks(row), strict=True))
            for row in ordered_rows(scores, targets)
        ]
    )


def approx_mrr(scores: Rows, targets: Rows) -> float:
    """1 - the largest reciprocal rank of a document with the largest target."""
    losses = []
    for row in ordered_rows(scores, targets):
        best = max(t for _, t in row)
        losses.append(1 - max(1 / r for (_, t), r in zip(row, approximate_ranks(row), strict=True) if t == best))
    return mean(losses)


def mean_ranks(row: Row) -> list[float]:
    """Ranks by the targets, of which equal ones share the mean."""
    order = sorted((t for _, t in row), reverse=True)
    return [mean([float(rank) for rank, u in enumerate(order, start=1) if u == t]) for _, t in row]


def approx_rank_mse(scores: Rows, targets: Rows, weight: Callable[[float], float] = lambda rank: 1.0) -> float:
    """The weighted squared error of approximate ranks."""
    return mean(
        [
            mean([weight(r) * (a - r) ** 2 for a, r in zip(approximate_ranks(row), mean_ranks(row), strict=True)])
            for row in ordered_rows(scores, targets)
        ]
    )


def adr_mse(scores: Rows, targets: Rows) -> float:
    """With the weight 1 / log2(1 + rank)."""
    return approx_rank_mse(scores, targets, lambda rank: 1 / math.log2(1 + rank))


def neural_ndcg(scores: Rows, targets: Rows) -> float:
    """1 - NDCG of the gains that NeuralSort sorts, after fifty of Sinkhorn's divisions."""
    losses = []
    for row in ordered_rows(scores, targets):
        n, gain = len(row), gains(row)
        share = []
        for r in range(1, n + 1):
            logits = [(n + 1 - 2 * r) * s - sum(abs(s - z) for z, _ in row) for s, _ in row]
            total = sum(math.exp(logit) for logit in logits)
            share.append([math.exp(logit) / total for logit in logits])
        for _ in range(50):
            columns = [sum(share[r][j] for r in range(n)) for j in range(n)]
            share = [[share[r][j] / columns[j] for j in range(n)] for r in range(n)]
            share = [[value / sum(line) for value in line] for line in share]
        ordered = [sum(share[r][j] * gain[j] for j in range(n)) for r in range(n)]
        losses.append(1 - sum(g / math.log2(1 + r) for r, g in enumerate(ordered, start=1)))
    return mean(losses)


def pearson(scores: Rows, targets: Rows) -> float:
    """1 - the correlation."""
    losses = []
    for row in ordered_rows(scores, targets):
        s_mean, t_mean = mean([s for s, _ in row]), mean([t for _, t in row])
        product = sum((s - s_mean) * (t - t_mean) for s, t in row)
        lengths = sum((s - s_mean) ** 2 for s, _ in row) * sum((t - t_mean) ** 2 for _, t in row)
        losses.append(1 - product / math.sqrt(lengths))
    return mean(losses)


def constant_margin_mse(scores: Rows, targets: Rows) -> float:
    """Squared error of the score differences of ordered pairs to the margin 1."""
    return mean([(s - z - 1) ** 2 for row in rows_of(scores, targets) for s, t in row for z, u in row if t > u])


def cosent(scores: Rows, targets: Rows) -> float:
    """log(1 + the sum over ordered pairs of exp(s_j - s_i)) with the temperature 1."""
    return mean(
        [
            math.log(1 + sum(math.exp(z - s) for s, t in row for z, u in row if t > u))
            for row in ordered_rows(scores, targets)
        ]
    )


def rank_net(scores: Rows, targets: Rows) -> float:
    """log(1 + exp(s_j - s_i)) over ordered pairs."""
    return mean(
        [math.log(1 + math.exp(z - s)) for row in rows_of(scores, targets) for s, t in row for z, u in row if t > u]
    )


def lce(scores: Rows, targets: Rows) -> float:
    """-log softmax of a document with the largest target among itself and those with lower ones, the mean over them."""
    losses = []
    for row in rows_of(scores, targets):
        best = max(t for _, t in row)
        low = sum(math.exp(s) for s, t in row if t < best)
        losses.append(mean([math.log(math.exp(s) + low) - s for s, t in row if t == best]))
    return mean(losses)


def margin_mse(scores: Rows, targets: Rows) -> float:
    """Squared error of the margins to the first document."""
    return mean([((row[0][0] - s) - (row[0][1] - t)) ** 2 for row in rows_of(scores, targets) for s, t in row[1:]])


def kl_divergence(scores: Rows, targets: Rows) -> float:
    """Sum of p log(p / q)."""
    losses = []
    for row in rows_of(scores, targets):
        p, q = sum(math.exp(t) for _, t in row), sum(math.exp(s) for s, _ in row)
        losses.append(sum(math.exp(t) / p * math.log((math.exp(t) / p) / (math.exp(s) / q)) for s, t in row))
    return mean(losses)
