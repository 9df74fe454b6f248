"""Which of some belongs to which of others, so that all of them together fit best."""

import numpy as np


def assigned(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (rows, columns) of an (n, m) matrix of costs, no row or column twice, none that costs 1 or more.

    Of all such sets of pairs the cheapest, where a row without a pair costs 1: the Hungarian method, by shortest
    augmenting paths (Jonker and Volgenant, 1987). Rows whose cheapest columns all differ, which is the usual case, are
    done at once.
    """
    n, m = cost.shape
    if not n or not m:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # Behind the columns one for each row to stay alone with. At 2, twice that, no pair is ever made.
    alone = np.full((n, n), 2.0)
    np.fill_diagonal(alone, 1)
    wide = np.concatenate([np.where(cost < 1, cost, 2), alone], axis=1)
    column = wide.argmin(axis=1)
    _, first = np.unique(column, return_index=True)
    if len(first) < n:
        column = _augmented(wide, column, first)
    pairs = np.flatnonzero(column < m)
    return pairs, column[pairs]


def _augmented(wide: np.ndarray, column: np.ndarray, settled: np.ndarray) -> np.ndarray:
    """The column of each row; `settled` are the rows that may have, to begin with, the one that `column` says."""
    price_of_row, price_of_column = wide.min(axis=1), np.zeros(wide.shape[1])
    column = column.copy()
    row = np.full(wide.shape[1], -1)
    row[column[settled]] = settled
    waiting = np.ones(len(wide), bool)
    waiting[settled] = False
    for start in np.flatnonzero(waiting).tolist():
        distance = wide[start] - price_of_row[start] - price_of_column
        came_from = np.full(wide.shape[1], start)
        done = np.zeros(wide.shape[1], bool)
        while True:
            end = int(np.where(done, np.inf, distance).argmin())
            if row[end] < 0:
                break
            done[end] = True
            further = distance[end] + wide[row[end]] - price_of_row[row[end]] - price_of_column
            shorter = ~done & (further < distance)
            distance[shorter] = further[shorter]
            came_from[shorter] = row[end]
        saved = distance[end] - distance[done]
        price_of_column[done] -= saved
        price_of_row[row[done]] += saved
        price_of_row[start] += distance[end]
        while True:
            other = int(came_from[end])
            row[end] = other
            column[other], end = end, int(column[other])
            if other == start:
                break
    return column
