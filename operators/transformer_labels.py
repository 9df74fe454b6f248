"""`labels` by a model of one's own: an image classifier, or words of one's own by an image-text model.

- A classifier (ViT, Swin, ConvNeXt, DeiT, ...) knows the labels that it was taught. Scores are probabilities as the
  transformers library's pipeline gives them: a softmax, or a sigmoid of each where a picture may have several.
- An image-text model (CLIP, SigLIP and their kin) compares a picture with words. CLIP's scores are a softmax over the
  words of cosine / temperature: they say which word fits best, and add up to 1 whatever is shown. SigLIP's are a
  sigmoid of cosine / temperature + bias: each word by itself.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from pinakes.operators.device import Origin
from pinakes.operators.hub_files import CONFIG, read_json
from pinakes.operators.label_rows import SCHEMA, label_rows
from pinakes.operators.operator import Results, WholeVideo
from pinakes.operators.spans import SPANS, spans
from pinakes.operators.transformer import LabelledOperator, TransformerConfig, class_names
from pinakes.operators.word_vectors import image_vectors
from pinakes.operators.words import of_model
from pinakes.operators.zero_shot import VocabularyConfig, ZeroShotOperator

if TYPE_CHECKING:
    import torch


class ClassifierConfig(TransformerConfig):
    """Settings of `labels` with a `model` that has labels of its own."""

    min_confidence: float = Field(default=0.1, ge=0, le=1)
    max_labels: int = Field(default=10, ge=1, le=1000)


class ZeroShotConfig(ClassifierConfig, VocabularyConfig):
    """Settings of `labels` with a `model` and a `vocabulary`.

    `temperature` divides the cosine; when not given it is the model's own.
    """

    templates: tuple[str, ...] = Field(default=("This is a photo of {}.",), min_length=1, max_length=200)
    temperature: float | None = Field(default=None, gt=0, le=100)


class ClassifierLabels(LabelledOperator):
    """Fills `labels` with the model's own labels, and of a video `spans`."""

    name = "labels"
    tables: ClassVar = {"labels": SCHEMA}
    video_tables: ClassVar = {"spans": SPANS}
    Config = ClassifierConfig
    config: ClassifierConfig
    kind = "an image classifier"

    @classmethod
    def architectures(cls) -> frozenset[str]:
        from transformers.models.auto import modeling_auto

        return class_names(modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)

    def _open(self) -> Any:
        from transformers import AutoModelForImageClassification

        self._classes = of_model(self.labels).table()
        config = read_json(self.hub_model.name, self.hub_model.folder() / CONFIG)
        self._each = config.get("problem_type") == "multi_label_classification" or len(self.labels) == 1
        return self.opened(AutoModelForImageClassification)[0]

    def _forward(self, pixel_values: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        logits = self._network(pixel_values=pixel_values).logits.float()
        return (logits.sigmoid() if self._each else logits.softmax(-1),)

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        scores = _stacked(self.outputs(inputs), len(self._classes))
        return {"labels": label_rows(scores, self._classes, self.config.min_confidence, self.config.max_labels)}

    def finish(self, video: WholeVideo) -> Mapping[str, pa.Table]:
        return {"spans": spans(self.name, video)}


class ZeroShotLabels(ZeroShotOperator):
    """Fills `labels` with the words of a vocabulary, and of a video `spans`."""

    name = "labels"
    tables: ClassVar = {"labels": SCHEMA}
    video_tables: ClassVar = {"spans": SPANS}
    Config = ZeroShotConfig
    config: ZeroShotConfig
    kind = "an image-text model, which a vocabulary is for"

    @classmethod
    def architectures(cls) -> frozenset[str]:
        from transformers.models.auto import modeling_auto

        return class_names(modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES)

    def remarks(self) -> list[str]:
        given = self.config.temperature
        siglip = "siglip" in str(read_json(self.hub_model.name, self.hub_model.folder() / CONFIG).get("model_type"))
        how = (
            "the sigmoid of (cosine / temperature + bias)"
            if siglip
            else "a softmax over the words of cosine / temperature"
        )
        return [
            *super().remarks(),
            f"{self.name}: {len(self.words.names):,} words by {self.model}; a score is {how}, the temperature "
            f"{given or 'that of the model'}",
        ]

    def _open(self) -> Any:
        import torch
        from transformers import AutoModel

        self._classes = self.words.table()
        vectors, scale, self._bias = self.vectors.load()
        self._scale = scale if self.config.temperature is None else 1 / self.config.temperature
        self._words = torch.from_numpy(vectors).to(self._device).T
        network, _ = self.opened(AutoModel)
        network.text_model = None  # the words' vectors are there already
        return network

    def _forward(self, pixel_values: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        return (self.probabilities(image_vectors(self._network, pixel_values)),)

    def probabilities(self, vectors: "torch.Tensor") -> "torch.Tensor":
        """Of each word, for a batch of unit vectors of pictures."""
        logits = vectors @ self._words * self._scale
        return logits.softmax(-1) if self._bias is None else (logits + self._bias).sigmoid()

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        scores = _stacked(self.outputs(inputs), len(self._classes))
        return {"labels": label_rows(scores, self._classes, self.config.min_confidence, self.config.max_labels)}

    def finish(self, video: WholeVideo) -> Mapping[str, pa.Table]:
        return {"spans": spans(self.name, video)}


def _stacked(outputs: Sequence[tuple[np.ndarray, ...]], classes: int) -> np.ndarray:
    """(pictures, classes) float32, for no pictures too."""
    return np.stack([one[0] for one in outputs]) if outputs else np.zeros((0, classes), np.float32)
