"""The operator `embeddings`: a vector of a whole picture, by a model of one's own (CLIP, SigLIP, DINOv2, ViT, ...).

Of an image-text model it is the vector that is compared with words; of any other the pooled one if its file has weights
for that, else that of the first token, or of a map of features their mean over the picture.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from pinakes.operators.device import Origin
from pinakes.operators.operator import EMBEDDINGS, PICTURE, Results
from pinakes.operators.transformer import TransformerConfig, TransformerOperator, class_names
from pinakes.operators.word_vectors import image_vectors

if TYPE_CHECKING:
    import torch


class Embeddings(TransformerOperator):
    """Fills `embeddings`, a row a picture; subject `image`."""

    name = "embeddings"
    tables: ClassVar = {"embeddings": EMBEDDINGS}
    Config = TransformerConfig
    kind = "a model that makes vectors of pictures"

    @classmethod
    def architectures(cls) -> frozenset[str]:
        from transformers.models.auto import modeling_auto

        tables = (
            modeling_auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        )
        return frozenset(name for table in tables for name in class_names(table))

    def _open(self) -> Any:
        from transformers import AutoModel

        network, missing = self.opened(AutoModel, may_lack="pooler.")
        self._pooled = not missing
        if hasattr(network, "get_image_features"):
            network.text_model = None
        return network

    def _forward(self, pixel_values: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        if hasattr(self._network, "get_image_features"):
            return (image_vectors(self._network, pixel_values),)
        found = self._network(pixel_values=pixel_values)
        pooled = getattr(found, "pooler_output", None) if self._pooled else None
        if pooled is None:
            last = found.last_hidden_state
            pooled = last.mean((-2, -1)) if last.ndim == 4 else last[:, 0]
        vectors = pooled.float().flatten(1)
        return (vectors / vectors.norm(dim=-1, keepdim=True),)

    def infer(self, inputs: Sequence[np.ndarray], origins: Sequence[Origin]) -> Results:
        vectors = [one[0] for one in self.outputs(inputs)]
        numbers = np.concatenate([np.zeros(0, np.float32), *vectors])
        offsets = np.cumsum([0, *(len(one) for one in vectors)])
        columns = [
            pa.array(np.arange(len(vectors), dtype=np.int32)),
            pa.array(["image"] * len(vectors), pa.string()),
            pa.array([origin.item_key for origin in origins], pa.string()),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(numbers)),
        ]
        return {"embeddings": pa.table(columns, schema=pa.schema([PICTURE, *EMBEDDINGS]))}
