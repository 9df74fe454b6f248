"""TransNet V2, which finds the transitions between shots, as a graph for OpenVINO.

By Tomáš Souček and Jakub Lokoč (TransNet V2: An effective deep network architecture for fast shot transition
detection, 2020, arXiv:2008.04838). Their weights come as a file of PyTorch's, a zip: what torch itself would unpickle,
`data.pkl`, is left alone, and the parameters, each a file of raw numbers beside it, are read in the order in which
`build` asks for them.
"""

import zipfile
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as op

from pinakes.operators.errors import ModelError
from pinakes.operators.graph import Precision, compile_graph

HEIGHT, WIDTH = 27, 48
#: Filters of each of a cell's four branches; the channels that come into each of the three stacks of two cells.
FILTERS = (16, 32, 64)
DILATIONS = (1, 2, 4, 8)
#: Added to the variance of a batch normalisation.
EPSILON = 1e-3
#: Frames before and after a frame with which its own likeness is looked up.
REACH = 50
#: Colours of a histogram: three bits each of red, green and blue.
COLOURS = 512


class TransNet:
    """The network, with its weights, on one thread."""

    def __init__(self, weights: Path, precision: Precision) -> None:
        """Raises ModelError when the file does not hold what is expected of it."""
        with zipfile.ZipFile(weights) as file:
            model = build(Parameters(file))
        # Any number of frames: what open sizes cost here was not measurable once a number has been seen.
        shape = (-1, HEIGHT, WIDTH, 3)
        self._graph = compile_graph(
            model, precision, "frames", shape, layout="NHWC", mean=(0.0, 0.0, 0.0), deviation=(255.0, 255.0, 255.0)
        )

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Of consecutive frames, (n, 27, 48, 3) uint8 RGB, two probabilities each: (n, 2) float32.

        That the frame is the middle of a transition, or of a hard cut the last before it; and that it is any frame of
        one. The authors trained with n = 100 and use the middle 50.
        """
        inputs = {"frames": frames, "histograms": histograms(frames)}
        found: np.ndarray = self._graph.infer(inputs, share_inputs=True)[0].copy()
        return found


class Parameters:
    """The file's numbers, in its order, each asked for by the shape that it has to have."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._next = 0

    def take(self, *shape: int) -> np.ndarray:
        """The next, float32 of that shape."""
        values = np.frombuffer(self._raw(), "<f4")
        if values.size != np.prod(shape):
            raise ModelError(f"TransNet V2: parameter {self._next - 1} has {values.size} numbers, not shape {shape}")
        return values.reshape(shape)

    def skip(self) -> None:
        self._raw()

    def _raw(self) -> bytes:
        self._next += 1
        return self._file.read(f"archive/data/{self._next - 1}")


def build(parameters: Parameters) -> openvino.Model:
    """From `frames`, (n, 27, 48, 3) of 0..1, and `histograms`, (n, 512), to (n, 2)."""
    frames = op.parameter([-1, HEIGHT, WIDTH, 3], np.float32)
    colours = op.parameter([-1, COLOURS], np.float32)
    frames.output(0).set_names({"frames"})
    colours.output(0).set_names({"histograms"})
    x = op.unsqueeze(op.transpose(frames, [3, 0, 1, 2]), 0)  # (1, channels, n, height, width) from here on
    means, channels = [], 3
    for filters in FILTERS:
        first = op.relu(_cell(x, channels, filters, parameters))
        x = op.add(op.relu(_cell(first, 4 * filters, filters, parameters)), first)
        x = op.avg_pool(x, [1, 2, 2], [0, 0, 0], [0, 0, 0], [1, 2, 2], True)
        means.append(op.reduce_mean(x, np.array([3, 4])))
        channels = 4 * filters
    height, width = HEIGHT // 8, WIDTH // 8
    features = op.reshape(op.transpose(x, [0, 2, 3, 4, 1]), np.array([-1, height * width * channels]), False)
    mean = op.transpose(op.squeeze(op.concat(means, 1), 0), [1, 0])
    looks = op.normalize_l2(_linear(mean, sum(4 * filters for filters in FILTERS), 128, parameters), [1], 1e-24, "max")
    by_looks, by_colours = (_likeness(each, frames, parameters) for each in (looks, colours))
    x = op.concat([by_colours, by_looks, features], 1)
    x = op.relu(_linear(x, 2 * 128 + height * width * channels, 1024, parameters))
    heads = [_linear(x, 1024, 1, parameters) for _ in ("middle", "any")]
    return openvino.Model([op.sigmoid(op.concat(heads, 1))], [frames, colours], "TransNet V2")


def histograms(frames: np.ndarray) -> np.ndarray:
    """How often each of 512 colours is in each of (n, height, width, 3) uint8: (n, 512) float32 of length 1."""
    bits = frames.reshape(len(frames), -1, 3).astype(np.int64) >> 5
    colours = (bits[..., 0] << 6) + (bits[..., 1] << 3) + bits[..., 2] + COLOURS * np.arange(len(frames))[:, None]
    counts = np.bincount(colours.ravel(), minlength=COLOURS * len(frames)).reshape(-1, COLOURS).astype(np.float32)
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    return counts


def _cell(x: openvino.Node, channels: int, filters: int, parameters: Parameters) -> openvino.Node:
    """Four branches side by side, each over the picture and then over time with a dilation, and the normalisation."""
    kernels = [
        (parameters.take(2 * filters, channels, 1, 3, 3), parameters.take(filters, 2 * filters, 3, 1, 1))
        for _ in DILATIONS
    ]
    scale, bias, mean, variance = (parameters.take(4 * filters) for _ in range(4))
    parameters.skip()  # how many batches it was trained with
    scale = scale / np.sqrt(variance + EPSILON)
    branches = []
    for dilation, (space, time), scales in zip(DILATIONS, kernels, np.split(scale, len(DILATIONS)), strict=True):
        y = op.convolution(x, op.constant(space), [1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1])
        time = time * scales[:, None, None, None, None]
        around = [dilation, 0, 0]
        branches.append(op.convolution(y, op.constant(time), [1, 1, 1], around, around, [dilation, 1, 1]))
    return op.add(op.concat(branches, 1), op.constant((bias - mean * scale).reshape(1, -1, 1, 1, 1)))


def _linear(x: openvino.Node, inputs: int, outputs: int, parameters: Parameters) -> openvino.Node:
    weights, bias = parameters.take(outputs, inputs), parameters.take(1, outputs)
    return op.add(op.matmul(x, op.constant(weights), False, True), op.constant(bias))


def _likeness(vectors: openvino.Node, frames: openvino.Node, parameters: Parameters) -> openvino.Node:
    """What is made of the cosines of each frame with those around it; (n, length) to (n, 128)."""
    count = op.slice(op.shape_of(frames), [0], [1], [1], [0])
    cosines = op.pad(op.matmul(vectors, vectors, False, True), [0, REACH], [0, REACH], "constant", np.float32(0))
    # Of row i the columns from i on: in one row after the other, with each a number longer, those are the first ones.
    width = 2 * REACH + 1
    flat = op.pad(op.reshape(cosines, np.array([-1]), False), [0], count, "constant", np.float32(0))
    skewed = op.reshape(flat, op.concat([count, op.add(count, op.constant(np.array([width])))], 0), False)
    return op.relu(_linear(op.slice(skewed, [0], [width], [1], [1]), width, 128, parameters))
