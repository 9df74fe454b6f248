"""From which similarity on faces are taken for one person's, by the model of their vectors.

Measured with tests/benchmarks/face_accuracy.py on faces that the quality filter lets pass. For SFace: of 11,286 pairs
of strangers one of 870 passes OpenCV's own .363, five .45 and none .5; of the same person's photos all pass .6.
"""

from dataclasses import dataclass

from pinakes.catalog.errors import CollectionError


@dataclass(frozen=True)
class Thresholds:
    """Cosines, 0 to 1: for a search, whose answer a person looks at; to give a name unseen; and to group faces."""

    search: float
    naming: float
    grouping: float


BY_MODEL = {"yunet-2023mar+sface-2021dec": Thresholds(search=0.5, naming=0.55, grouping=0.55)}


def thresholds(model: str) -> Thresholds:
    """Those of a model. Raises CollectionError for one of which none were measured."""
    if model not in BY_MODEL:
        raise CollectionError(
            f"from which similarity on two faces are one person's was not measured for the model {model}: say "
            "--threshold"
        )
    return BY_MODEL[model]
