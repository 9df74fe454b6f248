"""Small models of the transformers library with random weights, saved as anyone's would be. They know nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as library

#: ImageNet's labels as most classifiers spell them begin so; these are just different.
LABELS = ["red fox", "tabby, tabby cat", "fire engine, fire truck", "unheard-of thing", "goldfish, Carassius auratus"]

_NUMBERED = {"id2label": dict(enumerate(LABELS)), "label2id": {label: at for at, label in enumerate(LABELS)}}
_TEXT = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def byte_tokenizer() -> Any:
    """CLIP's, of bytes alone: no merges."""
    letters = [chr(one) for one in range(33, 127)] + [chr(one) for one in range(161, 173)]
    letters += [chr(one) for one in range(174, 256)] + [chr(256 + one) for one in range(68)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return library.CLIPTokenizer(vocab={word: at for at, word in enumerate(words)}, merges=[])


def clip(folder: Path) -> None:
    text = {**_TEXT, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513, "projection_dim": 24}
    vision = {**_VISION, "image_size": 64, "patch_size": 16, "projection_dim": 24}
    config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    _save(folder, library.CLIPModel(config), library.CLIPImageProcessorPil(**_square(64)), byte_tokenizer())


def siglip(folder: Path) -> None:
    text = {**_TEXT, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 512, "eos_token_id": 513}
    vision = {**_VISION, "image_size": 64, "patch_size": 16}
    model = library.SiglipModel(library.SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-1.5)
    # Its own tokenizer needs a sentencepiece model; this one makes as good numbers.
    _save(folder, model, library.SiglipImageProcessorPil(size={"height": 64, "width": 64}), byte_tokenizer())


def vit(folder: Path, **settings: Any) -> None:
    config = library.ViTConfig(**_VISION, image_size=64, patch_size=16, **{**_NUMBERED, **settings})
    processor = library.ViTImageProcessorPil(size={"height": 64, "width": 64})
    _save(folder, library.ViTForImageClassification(config), processor)


def swin(folder: Path) -> None:
    config = library.SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, **_NUMBERED
    )
    processor = library.ViTImageProcessorPil(size={"height": 64, "width": 64})
    _save(folder, library.SwinForImageClassification(config), processor)


def convnext(folder: Path) -> None:
    config = library.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], image_size=64, **_NUMBERED)
    processor = library.ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875)
    _save(folder, library.ConvNextForImageClassification(config), processor)


def deit(folder: Path) -> None:
    config = library.DeiTConfig(**_VISION, image_size=64, patch_size=16, **_NUMBERED)
    _save(folder, library.DeiTForImageClassification(config), library.DeiTImageProcessorPil(**_square(64)))


def efficientnet(folder: Path) -> None:
    """Its processor scales before it is cut off: it is run whole."""
    config = library.EfficientNetConfig(
        image_size=64, width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320, batch_norm_eps=1e-9, **_NUMBERED
    )
    processor = library.EfficientNetImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    model = library.EfficientNetForImageClassification(config)
    for layer in model.modules():  # else what it normalises by is not what comes, and nothing is left at its end
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 64, 64))
        model.classifier.weight.mul_(100)
    _save(folder, model, processor, widened=False)


def dinov2(folder: Path) -> None:
    config = library.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=56, patch_size=14
    )
    _save(folder, library.Dinov2Model(config), library.BitImageProcessorPil(**_square(56)))


def rt_detr(folder: Path) -> None:
    backbone = library.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
        out_indices=[2, 3, 4],
    )
    config = library.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[16, 16, 16],
        encoder_ffn_dim=32,
        encoder_attention_heads=4,
        d_model=32,
        num_queries=20,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=32,
        decoder_layers=2,
        decoder_attention_heads=4,
        num_denoising=0,
        feat_strides=[8, 16, 32],
        **_NUMBERED,
    )
    processor = library.RTDetrImageProcessorPil(size={"height": 128, "width": 128})
    _save(folder, library.RTDetrForObjectDetection(config), processor)


def yolos(folder: Path) -> None:
    config = library.YolosConfig(**_VISION, image_size=[96, 128], patch_size=16, num_detection_tokens=12, **_NUMBERED)
    processor = library.YolosImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160})
    _save(folder, library.YolosForObjectDetection(config), processor)


def owlvit(folder: Path) -> None:
    side = {"height": 64, "width": 64}
    _owl(folder, "OwlViT", library.OwlViTImageProcessorPil(size=side, crop_size=side))


def owlv2(folder: Path) -> None:
    _owl(folder, "Owlv2", library.Owlv2ImageProcessorPil(size={"height": 64, "width": 64}))


def _owl(folder: Path, family: str, processor: Any) -> None:
    text = {**_TEXT, "max_position_embeddings": 40, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 0}
    vision = {**_VISION, "image_size": 64, "patch_size": 16}
    config = getattr(library, f"{family}Config")(text_config=text, vision_config=vision, projection_dim=32)
    model = getattr(library, f"{family}ForObjectDetection")(config)
    with torch.no_grad():  # else its boxes have no size, and its scores are 0 or 1
        model.box_head.dense2.weight.mul_(0.01)
        for layer in (model.class_head.logit_scale, model.class_head.logit_shift):
            layer.weight.mul_(0.1)
    _save(folder, model, processor, byte_tokenizer(), widened=False)


def segformer(folder: Path) -> None:
    """Has no pooler, and makes maps of features instead of tokens."""
    config = library.SegformerConfig(
        hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2]
    )
    processor = library.SegformerImageProcessorPil(size={"height": 64, "width": 64})
    _save(folder, library.SegformerForImageClassification(config), processor)


CLASSIFIERS: dict[str, Callable[[Path], None]] = {
    "vit": vit,
    "swin": swin,
    "convnext": convnext,
    "deit": deit,
    "efficientnet": efficientnet,
}
IMAGE_TEXT: dict[str, Callable[[Path], None]] = {"clip": clip, "siglip": siglip}
DETECTORS: dict[str, Callable[[Path], None]] = {"rt_detr": rt_detr, "yolos": yolos}
TOLD_IN_WORDS: dict[str, Callable[[Path], None]] = {"owlvit": owlvit, "owlv2": owlv2}
EVERY = {**CLASSIFIERS, **IMAGE_TEXT, **DETECTORS, **TOLD_IN_WORDS, "dinov2": dinov2, "segformer": segformer}


def make(kind: str, folder: Path, **settings: Any) -> Path:
    """A model of that kind in that folder, the same weights every time."""
    torch.manual_seed(0)
    EVERY[kind](folder, **settings)
    return folder


def _square(side: int) -> dict[str, dict[str, int]]:
    """Short side to `side`, then the middle square."""
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _save(folder: Path, model: Any, processor: Any, tokenizer: Any = None, *, widened: bool = True) -> None:
    # Weights as they begin are so small that all answers are alike.
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if widened and weights.ndim > 1 and "position" not in name:
                weights.mul_(4)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [type(model).__name__]
