"""The largest of many scores."""

import numpy as np
from numpy.typing import NDArray


def top(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions of the `count` largest scores, best first; of ties at the cut, any may be left out.

    >>> top(np.array([0.5, 3.0, 1.0]), 2).tolist()
    [1, 2]
    """
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    best = np.argpartition(-scores, count - 1)[:count]
    return best[np.argsort(-scores[best], kind="stable")]
