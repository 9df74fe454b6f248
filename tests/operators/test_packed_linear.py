"""Linear layers laid out for oneDNN: the same answers, and nothing changed where they would not be."""

import numpy as np
import pytest
import torch

from pinakes.operators.operator import create
from pinakes.operators.packed_linear import pack
from tests import tiny_models


class Twice(torch.nn.Module):
    """Has a layer that it calls, and one whose weights it takes otherwise, if told so."""

    def __init__(self, otherwise):
        super().__init__()
        self.first, self.second, self.otherwise = torch.nn.Linear(8, 6), torch.nn.Linear(6, 4, bias=False), otherwise

    def forward(self, inputs):
        hidden = self.first(inputs)
        return hidden @ self.second.weight.T if self.otherwise else self.second(hidden)


@pytest.mark.parametrize("otherwise", [False, True])
def test_layers_are_replaced_where_that_changes_nothing(otherwise):
    torch.manual_seed(0)
    network, inputs = Twice(otherwise), torch.randn(5, 3, 8)

    def run():
        with torch.inference_mode():
            return [network(inputs).numpy()]

    before = run()[0]
    assert pack(network, run) is not otherwise
    assert (type(network.first) is torch.nn.Linear) is otherwise
    assert np.abs(run()[0] - before).max() < 1e-6


@pytest.mark.parametrize("kind", tiny_models.EVERY)
def test_every_family_runs_on_them(kind, tmp_path):
    """That their answers are the library's own, test_transformer.py holds."""
    name = "labels" if kind in tiny_models.CLASSIFIERS else "objects" if kind in tiny_models.DETECTORS else "embeddings"
    if kind in tiny_models.TOLD_IN_WORDS:
        name = "objects"
    words = {"vocabulary": "coco"} if kind in tiny_models.TOLD_IN_WORDS else {}
    operator = create(name, {"model": str(tiny_models.make(kind, tmp_path / kind)), **words})
    operator.resolve("cpu")
    operator.fetch("cpu")
    operator.load("cpu")
    kinds = {type(layer).__name__ for layer in operator._network.modules()}
    assert "PackedLinear" in kinds
    assert "Linear" not in kinds
