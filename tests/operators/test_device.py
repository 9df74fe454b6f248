"""Batches that fit the device: the best is found by doubling, and halved when memory runs out, with nothing lost."""

import numpy as np
import pytest
import torch

from pinakes.operators.device import Batches, best_batch, is_lost, is_out_of_memory


class Clock:
    """Seconds that pass only when a batch is run."""

    def __init__(self, monkeypatch, seconds_of):
        self.now = 0.0
        self.sizes = []
        self._seconds_of = seconds_of
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def run(self, size):
        self.sizes.append(size)
        self.now += self._seconds_of(size)


def out_of_memory(limit):
    """A model that has room for that many inputs."""

    def run(stack):
        size = stack if isinstance(stack, int) else len(stack)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [(float(one.sum()),) for one in stack] if not isinstance(stack, int) else None

    return run


def test_the_batch_is_doubled_while_it_pays(monkeypatch):
    clock = Clock(monkeypatch, lambda size: 0.010 + max(size, 32) * 0.001)
    # As quick up to 32 as one alone, then a thousandth of a second each: what is gained is the hundredth.
    assert best_batch(clock.run) == 128
    assert sorted(set(clock.sizes)) == [2**power for power in range(9)]


def test_it_stops_where_nothing_is_gained(monkeypatch):
    clock = Clock(monkeypatch, lambda size: max(size, 16) * 0.001)
    assert best_batch(clock.run) == 16
    assert max(clock.sizes) == 32


def test_it_stops_where_memory_does(monkeypatch):
    limited = out_of_memory(100)
    clock = Clock(monkeypatch, lambda size: limited(size) or 0.01)
    assert best_batch(clock.run) == 64
    with pytest.raises(MemoryError, match="no room for a batch of one"):
        best_batch(out_of_memory(0))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(size):
        raise ValueError("not that")

    with pytest.raises(ValueError, match="not that"):
        best_batch(broken)


def test_out_of_memory_the_batch_is_halved_and_the_work_goes_on():
    inputs = [np.full((2, 2), number, np.uint8) for number in range(50)]
    batches = Batches(32)
    assert batches.run(out_of_memory(5), inputs) == [(4.0 * number,) for number in range(50)]
    assert batches.size == 4
    assert batches.run(out_of_memory(5), inputs[:3]) == [(0.0,), (4.0,), (8.0,)]
    with pytest.raises(MemoryError, match="no room for this one input"):
        batches.run(out_of_memory(0), inputs[:1])


def test_inputs_of_one_shape_go_together_and_none_is_padded():
    inputs = [np.full((side, 3), side, np.uint8) for side in (2, 5, 2, 2, 5, 7)]
    shapes = []

    def model(stack):
        shapes.append(stack.shape)
        return [(one.shape, int(one[0, 0])) for one in stack]

    found = Batches(2).run(model, inputs)
    assert found == [((side, 3), side) for side in (2, 5, 2, 2, 5, 7)]
    assert shapes == [(2, 2, 3), (1, 2, 3), (2, 5, 3), (1, 7, 3)]


def test_errors_are_told_apart():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**46)
    assert is_out_of_memory(raised.value)
    for said in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"):
        assert is_out_of_memory(RuntimeError(said))
        assert not is_lost(RuntimeError(said))
    assert is_lost(RuntimeError("CUDA error: an illegal memory access was encountered"))
    for error in (RuntimeError("shapes cannot be multiplied"), torch.OutOfMemoryError("CUDA out of memory")):
        assert not is_lost(error)
