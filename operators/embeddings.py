"""The operator `embeddings`: a vector of a whole picture, by a model of one's own (CLIP, SigLIP, DINOv2, ViT, ...).

Of an image-text model it is the vector that is compared with words; of any other the pooled one if its file has weights
for that, else that of the first token.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

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

        return class_names(
            {
                **modeling_auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
                **{
                    f"{name} ": value
                    for name, value in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items()
                },
                **modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
            }
        )

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
        vectors = (found.last_hidden_state[:, 0] if pooled is None else pooled).float()
        return (vectors.flatten(1) / vectors.flatten(1).norm(dim=-1, keepdim=True),)

    def infer(self, inputs: Sequence[np.ndarray], item_keys: Sequence[str]) -> Results:
        vectors = [one[0] for one in self.outputs(inputs)]
        numbers = np.concatenate([np.zeros(0, np.float32), *vectors])
        offsets = np.cumsum([0, *(len(one) for one in vectors)])
        columns = [
            pa.array(np.arange(len(vectors), dtype=np.int32)),
            pa.array(["image"] * len(vectors), pa.string()),
            pa.array(item_keys, pa.string()),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(numbers)),
        ]
        return {"embeddings": pa.table(columns, schema=pa.schema([PICTURE, *EMBEDDINGS]))}
