"""The vectors of words by an image-text model: worked out once, in the driver, and kept beside the models.

A word's vector is the mean over the templates of its unit vectors, brought to length 1.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from pinakes.operators import models
from pinakes.operators.device import full_precision, release
from pinakes.operators.errors import ModelError
from pinakes.operators.hub import HubModel
from pinakes.operators.operator import Device
from pinakes.operators.preprocessing import Preprocessing, silent
from pinakes.operators.words import Words

if TYPE_CHECKING:
    import torch

#: Texts that go through the model together.
BATCH = 64
#: How far a model's own comparison of picture and word may be from ours: its rounding, times its scale of some 100.
EQUAL = 1e-2
#: Raise it when the code changes a vector.
VERSION = 1
FILE = "vectors.safetensors"
#: One of them, or a model of sentencepiece, is what a tokenizer is made from.
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class WordVectors:
    """The name of vectors that are in the cache."""

    key: str

    @property
    def file(self) -> Path:
        return models.cache_folder() / "vectors" / self.key / FILE

    def folders(self) -> Mapping[str, Mapping[str, Path]]:
        """As Operator.folders."""
        return {f"vectors/{self.key}": {FILE: self.file}}

    def load(self) -> tuple[np.ndarray, float, float | None]:
        """(words, dimensions) float32 of length 1; the model's own factor, 1 / temperature; its bias if it has one."""
        from safetensors.numpy import load_file

        found = load_file(self.file)
        bias = found.get("bias")
        return found["vectors"], float(found["scale"][0]), None if bias is None else float(bias[0])


def word_vectors(
    model: HubModel, words: Words, templates: Sequence[str], device: Device, report: models.Report
) -> WordVectors:
    """Those of the words in the templates, from the cache or worked out on the device. Raises ModelError."""
    parts = [VERSION, model.digest, words.names, templates]
    made = WordVectors(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest())
    made.file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(made.file.parent.with_suffix(".lock")):
        if not made.file.is_file():
            report(f"{model.label}: vectors of {len(words.names):,} words in {len(templates)} templates")
            _write(made.file, _work_out(model, words, templates, device))
    return made


def _write(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as partial:
        partial.write(save(dict(arrays)))
    os.replace(partial.name, file)


def _work_out(model: HubModel, words: Words, templates: Sequence[str], device: Device) -> dict[str, np.ndarray]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    if not torch.cuda.is_available():  # the driver of a cluster need not have what its nodes have
        device = "cpu"
    # Without its files the library makes a tokenizer that knows no word, and says nothing.
    if not any(file.name in TOKENIZERS or file.name.endswith(".model") for file in model.files):
        raise ModelError(
            f"model {model.label} cannot be used with words: it has no tokenizer ({', '.join(TOKENIZERS)})"
        )
    folder = model.folder()
    settings: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    network: Any = None
    try:
        with silent(), full_precision():
            tokenizer = AutoTokenizer.from_pretrained(folder, **settings)
            network = AutoModel.from_pretrained(folder, use_safetensors=True, **settings).eval().to(device)
            network.float()
            if not all(hasattr(network, part) for part in ("get_text_features", "get_image_features", "logit_scale")):
                raise ModelError(
                    f"it is a {type(network).__name__}, of a family that is not read yet (CLIP's and SigLIP's are)"
                )
            with torch.inference_mode():
                vectors = torch.cat(
                    [
                        _mean_of_templates(network, tokenizer, words.names[start : start + BATCH], templates)
                        for start in range(0, len(words.names), BATCH)
                    ]
                )
                bias = getattr(network, "logit_bias", None)
                found = {
                    "vectors": vectors.cpu().numpy(),
                    "scale": network.logit_scale.exp().reshape(1).float().cpu().numpy(),
                    **({} if bias is None else {"bias": bias.reshape(1).float().cpu().numpy()}),
                }
                _check(model, network, tokenizer, templates[0].format(words.names[0]))
    except Exception as error:  # its files are anyone's
        raise ModelError(
            f"model {model.label} cannot be used with words: {' '.join(str(error).split())[:300]}"
        ) from None
    finally:
        network = None
        release()
    return found


def _mean_of_templates(network: Any, tokenizer: Any, names: Sequence[str], templates: Sequence[str]) -> "torch.Tensor":
    import torch

    total = torch.zeros(())
    for template in templates:
        tokens = _tokens(network, tokenizer, [template.format(name) for name in names])
        total = total.to(network.device) + _unit(features(network.get_text_features(**tokens)))
    return _unit(total)


def _tokens(network: Any, tokenizer: Any, texts: Sequence[str]) -> Any:
    """As the transformers library's zero-shot pipeline makes them; texts that are too long are cut."""
    siglip = "siglip" in network.config.model_type
    how: dict[str, Any] = {"padding": "max_length", "max_length": 64} if siglip else {"padding": True}
    return tokenizer(list(texts), return_tensors="pt", truncation=True, **how).to(network.device)


def _check(model: HubModel, network: Any, tokenizer: Any, text: str) -> None:
    """Raises ModelError when the model compares pictures and words in another way than we do."""
    import torch

    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    preparing = Preprocessing(model.folder(), model.label, exact=True)
    pixel_values = preparing.finish(torch.from_numpy(preparing(pixels)[None]).to(network.device))
    tokens = _tokens(network, tokenizer, [text])
    theirs = network(pixel_values=pixel_values, **tokens).logits_per_image
    cosine = image_vectors(network, pixel_values) @ _unit(features(network.get_text_features(**tokens))).T
    bias = getattr(network, "logit_bias", None)
    ours = cosine * network.logit_scale.exp() + (0 if bias is None else bias)
    if not torch.allclose(ours, theirs, atol=EQUAL, rtol=1e-3):
        raise ModelError("it compares pictures with words in a way of its own, which is not read yet")


def image_vectors(network: Any, pixel_values: "torch.Tensor") -> "torch.Tensor":
    """(pictures, dimensions) float32 of length 1, by an image-text model."""
    return _unit(features(network.get_image_features(pixel_values=pixel_values)))


def features(found: Any) -> "torch.Tensor":
    """What the library's get_..._features returns: since its version 5 an object, before it the tensor itself."""
    tensor: torch.Tensor = getattr(found, "pooler_output", found)
    return tensor.float()


def _unit(vectors: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.nn.functional.normalize(vectors, dim=-1)
