"""The operator `moderation`: whether a photo is pornographic, by Yahoo's open_nsfw.

One score is all that the model has. It stands in the taxonomy that Amazon Rekognition uses (version 7) as that tree's
level-1 label "Explicit". It knows nothing of violence, drugs, hate or what else is in that tree, and by its
authors nothing of drawings: no row does not mean that a picture is fit to be shown.

Preprocessing is the published one: 256 x 256 whatever the shape (Pillow's bilinear), saved as JPEG and read again,
because the model learned from JPEG files resized so, and the middle 224 x 224.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import openvino
import pyarrow as pa
from openvino import opset13
from openvino.passes import ConstantFolding, Manager
from PIL import Image
from pydantic import Field

from pinakes.operators import models, onnx
from pinakes.operators.graph import Precision, compile_graph
from pinakes.operators.operator import BOX, PICTURE, Operator, OperatorConfig, Picture, Results, WholeVideo
from pinakes.operators.spans import SPANS, spans

MODEL = "open-nsfw"
SIDE = 256
CROP = 224

#: A picture whose short side has this many pixels is first halved, by averaging, which takes half of the time. Scores
#: of 32 such photos moved by at most 0.013; those of smaller ones are the published code's.
HALVED_FROM = 640

#: What the model learned with, in its order of the channels: blue, green, red.
MEAN = (104.0, 117.0, 123.0)

#: Arrow neither casts nor writes a struct that is null while its own fields may not be.
NO_BOX = pa.struct([side.with_nullable(True) for side in BOX])

SCHEMA = pa.schema(
    [
        pa.field(
            "name",
            pa.string(),
            metadata={
                "description": "label of unsafe content; the model in use knows one, Explicit (pornography), and "
                "nothing of violence, drugs, hate or drawings"
            },
        ),
        pa.field("parent", pa.string(), metadata={"description": "the label above it; null at level 1"}),
        pa.field("taxonomy_level", pa.int32(), metadata={"description": "1 to 3, 1 being the broadest"}),
        pa.field(
            "confidence",
            pa.float32(),
            metadata={
                "description": "score by the model, 0 to 1; by its authors over 0.8 is highly probable, and 0.2 to "
                "0.8 for people to look at"
            },
        ),
        pa.field(
            "box",
            NO_BOX,
            metadata={"description": "ratios of the upright picture; null: the model in use judges the whole picture"},
        ),
    ],
    metadata={"description": "a label of unsafe content"},
)


class ModerationConfig(OperatorConfig):
    """Settings of `moderation`.

    By its authors a picture under 0.2 is likely to be safe, one over 0.8 highly probable not to be; in between, people
    should look. So rows begin at 0.2. Of 212 ordinary photos two had one: an old class photo with 0.32, and bananas
    with 0.97. What the model misses was not measured: there were no explicit pictures to measure it on.

    bf16 moved the scores of those photos by at most 0.01, and none across 0.2, 0.5 or 0.8.
    """

    min_confidence: float = Field(default=0.2, ge=0, le=1)
    precision: Precision = "bf16"


class Moderation(Operator):
    """Fills `moderation`: one row for a picture whose score reaches `min_confidence`, none for others.

    And of a video `spans`.
    """

    name = "moderation"
    tables: ClassVar = {"moderation": SCHEMA}
    video_tables: ClassVar = {"spans": SPANS}
    Config = ModerationConfig
    config: ModerationConfig

    @classmethod
    def for_settings(cls, settings: Mapping[str, Any]) -> type[Operator]:
        if not onnx.is_installed():
            return cls
        from pinakes.operators.moderation_on_cuda import CudaModeration

        return CudaModeration

    def model_names(self) -> tuple[str, ...]:
        return (MODEL,)

    def load(self) -> None:
        """Raises ModelError when the model is not on this machine."""
        model = channels_first(openvino.Core().read_model(models.path(MODEL) / "open_nsfw.onnx"))
        shape = (1, CROP, CROP, 3)
        self._graph = compile_graph(
            model, self.config.precision, "input_0", shape, mean=MEAN, deviation=(1.0, 1.0, 1.0), bgr=True
        )

    def look(self, pictures: Sequence[Picture]) -> Results:
        return self.results([crop(picture.pixels) for picture in pictures])

    def results(self, crops: Sequence[np.ndarray]) -> Results:
        """What `look` gives, of what `crop` has made of pictures."""
        scores = self._scores(crops)
        found = np.nonzero(scores >= self.config.min_confidence)[0]
        columns = {
            "picture": pa.array(found.astype(np.int32)),
            "name": pa.array(["Explicit"] * len(found), pa.string()),
            "parent": pa.nulls(len(found), pa.string()),
            "taxonomy_level": pa.array(np.ones(len(found), np.int32)),
            "confidence": pa.array(scores[found]),
            "box": pa.nulls(len(found), NO_BOX),
        }
        return {"moderation": pa.table(columns, schema=pa.schema([PICTURE, *SCHEMA]))}

    def finish(self, video: WholeVideo) -> Mapping[str, pa.Table]:
        return {"spans": spans(self.name, video)}

    def _scores(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) float32."""
        found = [self._graph.infer({"input_0": one[None]}, share_inputs=True)[0][0, 1] for one in crops]
        return np.array(found, np.float32)


def crop(pixels: np.ndarray) -> np.ndarray:
    """The model's view, (224, 224, 3) uint8.

    Without the JPEG in between, scores move by up to 0.21, and with OpenCV's bilinear as well by up to 0.30.
    """
    height, width = pixels.shape[:2]
    box = None
    if min(height, width) >= HALVED_FROM:
        if height % 2 or width % 2:  # OpenCV is quick with exact halves only
            pixels = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
        box = (0, 0, width / 2, height / 2)
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
    file = io.BytesIO()
    small.save(file, "JPEG")
    margin = (SIDE - CROP) // 2
    return np.ascontiguousarray(np.asarray(Image.open(file))[margin : margin + CROP, margin : margin + CROP])


def channels_first(model: openvino.Model) -> openvino.Model:
    """The graph with its channels before height and width throughout, as a CPU computes it best.

    It was converted from Keras with the channels last and turns every convolution's input and output about; those 110
    transpositions, which also keep biases, normalisation and activation out of the convolutions, were half of the
    time (f32 34 to 18 ms, bf16 22 to 10). What is between two of them works element by element: it needs its
    constants turned and nothing else. Takes 25 ms.
    """
    model.reshape({"input_0": openvino.PartialShape([1, CROP, CROP, 3])})
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Transpose":
            node.output(0).replace(node.input_value(0))
        elif kind in ("Add", "Subtract", "Multiply"):
            for port in node.inputs():
                _change_constant(port, 4, lambda values: values.transpose(0, 3, 1, 2))
        elif kind == "Pad":  # of two, one was between two transpositions: channels are not padded, so it has 0 there
            for port in node.inputs()[1:3]:
                _change_constant(port, 1, lambda sides: sides[[0, 3, 1, 2]] if sides[3] == 0 else sides)
        elif kind == "ReduceMean":
            _change_constant(node.input(1), 1, lambda axes: axes + 1)
    model.get_parameters()[0].set_partial_shape(openvino.PartialShape([1, 3, CROP, CROP]))
    model.validate_nodes_and_infer_types()
    return model


def _change_constant(port: openvino.Input, dimensions: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    constant = port.get_source_output().get_node()
    if constant.get_type_name() == "Constant" and len(constant.shape) == dimensions:
        port.replace_source_output(opset13.constant(change(constant.data)).output(0))
