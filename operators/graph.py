"""Compiled graphs on OpenVINO's CPU plugin, and the step from the canonical picture to a graph's own size."""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import openvino
from openvino import opset13
from openvino.preprocess import ColorFormat, PrePostProcessor

#: ImageNet's mean and deviation of red, green and blue, for samples of 0..255: what labels and objects learned with.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)

#: float32, or bfloat16 where the processor has instructions for it (AVX-512 BF16, AMX) and float32 where it has not.
#: An operator's setting, so part of its fingerprint; each operator's default was chosen by measurement.
Precision = Literal["f32", "bf16"]

#: `compile_graph` in a precision, or its like on another runtime (onnx.py), told the rest by name. What it gives has
#: `infer`, from inputs by name to outputs by name or position.
Opener = Callable[..., Any]
#: How pictures are gone through: `map`, or the like that has several in hand at once.
Each = Callable[..., Iterable[Any]]

_SETTINGS = {
    # Parallelism is over processes. Pinning would put all of them on the same core.
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
    # For graphs of open sizes: kernels of some twenty sizes are kept, not of fifty, which took 0.3 GB more.
    "CPU_RUNTIME_CACHE_CAPACITY": 2000,
}


@cache
def _core() -> openvino.Core:
    return openvino.Core()


def compile_graph(
    graph: Path | openvino.Model,
    precision: Precision,
    image_input: str,
    shape: tuple[int, int, int, int],
    *,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    mean: tuple[float, ...] = MEAN,
    deviation: tuple[float, ...] = DEVIATION,
    bgr: bool = False,
) -> openvino.InferRequest:
    """A graph, in a file or already read, that takes pictures, (n, height, width, 3) uint8 RGB, as `image_input`.

    `shape` is that (n, height, width, 3); -1 leaves a side open, at the price of a compilation for every new size.
    They are brought to the graph's own layout and float32, less `mean` over `deviation`, inside the graph; `bgr` says
    that the model learned with the channels in that order, which is then the order of `mean` and `deviation` too.
    Give one at a time: on a CPU, batches gained nothing when measured, and an answer cannot depend on the batch.
    """
    model = _core().read_model(graph) if isinstance(graph, Path) else graph
    flatten_transposed(model)
    n, height, width, channels = shape
    own = [n, channels, height, width] if layout == "NCHW" else list(shape)
    model.reshape({image_input: openvino.PartialShape(own)})
    steps = PrePostProcessor(model)
    image = steps.input(image_input)
    image.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    image.model().set_layout(openvino.Layout(layout))
    if bgr:
        image.tensor().set_color_format(ColorFormat.RGB)
        image.preprocess().convert_color(ColorFormat.BGR)
    image.preprocess().convert_element_type(openvino.Type.f32).mean(list(mean)).scale(list(deviation))
    # Left alone, the plugin takes bfloat16 where the processor has it, and answers depend on the machine.
    settings = {**_SETTINGS, "INFERENCE_PRECISION_HINT": precision}
    return _core().compile_model(steps.build(), "CPU", settings).create_infer_request()


def resize(pixels: np.ndarray, width: int, height: int, interpolation: int) -> np.ndarray:
    """(height, width, 3) uint8 by the model's own interpolation; twice that or more is averaged first.

    The averaging (INTER_AREA, by a whole number) brings a large photo to about the size of those that the models were
    scored on; plain bilinear or bicubic sampling of it would pick up its noise. Measured on 100 and 43 photos enlarged
    to 1600 pixels, with noise of deviation 20 added: labels top-1 .84 without it, .90 with it; objects AP50 .44 and
    .48. With none added: .92 and .91, .51 and .51, the same within one photo.
    """
    by = min(pixels.shape[0] // height, pixels.shape[1] // width)
    if by >= 2:
        size = (pixels.shape[1] // by, pixels.shape[0] // by)
        # Without the rest of the division, by - 1 pixels at two edges at most: OpenCV averages by a whole number three
        # to eight times quicker than by any other.
        pixels = cv2.resize(pixels[: size[1] * by, : size[0] * by], size, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (width, height), interpolation=interpolation)


def flatten_transposed(model: openvino.Model) -> None:
    """Replaces each 2 x 2 transposed convolution of stride 2 by what it equals: a 1 x 1 convolution to four times the
    channels, laid out as 2 x 2 pixels.

    OpenVINO's own is slow when sizes are open: 24.7 ms of CPU at 480 x 640 before, 20.1 after, with equal answers.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ConvolutionBackpropData":
            continue
        weights = node.input_value(1).get_node().get_data()
        if weights.shape[2:] != (2, 2) or list(node.get_attributes()["strides"]) != [2, 2]:
            continue
        ones = np.ascontiguousarray(weights.transpose(1, 2, 3, 0).reshape(-1, weights.shape[0], 1, 1))
        flat = opset13.convolution(node.input_value(0), opset13.constant(ones), [1, 1], [0, 0], [0, 0], [1, 1])
        node.output(0).replace(opset13.depth_to_space(flat, "depth_first", 2).output(0))
    model.validate_nodes_and_infer_types()
