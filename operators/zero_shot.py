"""Operators whose model is told in words what to look for: what those of labels and of objects have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from pinakes.operators import models
from pinakes.operators.operator import Device, OperatorConfig
from pinakes.operators.transformer import TransformerConfig, TransformerOperator
from pinakes.operators.word_vectors import WordVectors, word_vectors
from pinakes.operators.words import Words, read_words


class VocabularyConfig(TransformerConfig):
    """Each word is put into every template, and its vector is the mean over them.

    So section 3.1.4 of Radford and others, 2021. The default is that of the transformers library's pipeline.
    """

    vocabulary: str = Field(min_length=1, description="file of words (see words.py), or imagenet, or coco")
    templates: tuple[str, ...] = Field(default=("{}",), min_length=1, max_length=200)

    @field_validator("templates")
    @classmethod
    def _one_place_for_the_word(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
                raise ValueError(f"template {template!r} has not one {{}} in it, where the word goes")
        return templates


class ZeroShotOperator(TransformerOperator):
    """A subclass uses `words` and `vectors`, which are there when it is told to `_open`."""

    Config: ClassVar[type[OperatorConfig]] = VocabularyConfig
    config: VocabularyConfig
    words: Words
    vectors: WordVectors

    def resolve(self, device: Device, report: models.Report = lambda line: None) -> None:
        self.words = read_words(self.config.vocabulary)
        super().resolve(device, report)

    def digests(self) -> list[str]:
        return [*super().digests(), self.words.digest]

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "vocabulary"}

    def fetch(self, device: Device, report: models.Report = lambda line: None) -> None:
        self.vectors = word_vectors(self.hub_model, self.words, self.config.templates, device, report)

    def folders(self) -> Mapping[str, Mapping[str, Path]]:
        return {**super().folders(), **self.vectors.folders()}
