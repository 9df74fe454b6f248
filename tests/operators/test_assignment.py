"""Assignment against all that there are."""

from itertools import permutations

import numpy as np
import pytest

from pinakes.operators.assignment import assigned


def total(cost, rows, columns):
    """Of pairs, where a row without one costs 1."""
    return cost[rows, columns].sum() + len(cost) - len(rows)


def least(cost):
    """By trying everything: columns beyond the last mean that a row stays alone."""
    n, m = cost.shape
    wide = np.concatenate([np.minimum(cost, 1), np.ones((n, n))], axis=1)
    return min(wide[range(n), columns].sum() for columns in permutations(range(m + n), n))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (3, 3), (4, 2), (2, 5), (4, 4)])
def test_it_is_the_cheapest(shape):
    generator = np.random.default_rng(sum(shape))
    for number in range(60):
        cost = generator.uniform(0, 1.5, shape)
        if number % 2:
            cost = np.round(cost * 4) / 4  # equal costs
        if number % 3 == 0:
            cost[generator.random(shape) < 0.3] = np.inf
        rows, columns = assigned(cost)
        assert len(set(rows.tolist())) == len(rows)
        assert len(set(columns.tolist())) == len(columns)
        assert (cost[rows, columns] < 1).all()
        assert total(cost, rows, columns) == pytest.approx(least(cost))


def test_a_large_one_is_as_cheap_as_scipy_says():
    optimize = pytest.importorskip("scipy.optimize")
    cost = np.random.default_rng(1).uniform(0, 1.2, (60, 50)) ** 0.3
    rows, columns = assigned(cost)
    alone = np.where(np.eye(60, dtype=bool), 1, 1000)
    wide = np.concatenate([np.where(cost < 1, cost, 1000), alone], axis=1)
    assert total(cost, rows, columns) == pytest.approx(wide[optimize.linear_sum_assignment(wide)].sum())


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing(shape):
    rows, columns = assigned(np.zeros(shape))
    assert len(rows) == len(columns) == 0
