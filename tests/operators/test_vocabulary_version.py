"""Names, ancestors and categories are answers, but the vocabulary is no part of the weights in a fingerprint."""

import hashlib
from pathlib import Path

from pinakes.operators import labels
from pinakes.operators.labels import Labels
from pinakes.operators.objects import Objects

VOCABULARY = Path(labels.__file__).with_name("vocabulary.csv")


def test_a_changed_vocabulary_comes_with_new_versions_of_the_operators_that_use_it() -> None:
    """When this fails: raise `version` of both operators, so that all is looked at again, and the line below."""
    found = hashlib.sha256(VOCABULARY.read_bytes()).hexdigest()[:16]
    assert (found, Labels.version, Objects.version) == ("8409fb8ff35313d8", 1, 1)
