"""What the same models cost in the code that they come with: the "before" of the README's table, beside operators.py.

    python -m tests.benchmarks.references [FOLDER ...] [--photos 400]

Each as a newcomer would put it together, in float32 on one thread: Pillow decodes at full size; OpenCV's FaceDetectorYN
(at a long side of 640) and FaceRecognizerSF; rapidocr's API with the small detector at up to 960 pixels; open_nsfw on
ONNX Runtime with its published preprocessing. Labels and objects come as Paddle models, for which there is no lighter
code than OpenVINO's: theirs are the operators in float32 on whole photos.
"""

import argparse
import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image
from rapidocr import RapidOCR

from pinakes.operators import models
from pinakes.operators.decode import single_thread
from pinakes.operators.operator import MediaFacts, Picture, create
from tests.benchmarks.photos import folders, machine, make_archive

Look = Callable[[np.ndarray], object]
WARM_UP = 16


def ours(name: str) -> Look:
    operator = create(name, {"precision": "f32"})
    operator.load()
    facts = MediaFacts("image", "jpeg", 1, 1, 1, 1)
    return lambda pixels: operator.look([Picture(pixels, facts)])


def faces() -> Look:
    detector_file = models.path("yunet-2023mar") / "face_detection_yunet_2023mar.onnx"
    recognizer_file = models.path("sface-2021dec") / "face_recognition_sface_2021dec.onnx"
    detector = cv2.FaceDetectorYN.create(str(detector_file), "", (640, 640), 0.7)
    recognizer = cv2.FaceRecognizerSF.create(str(recognizer_file), "")

    def look(pixels: np.ndarray) -> None:
        scale = min(1, 640 / max(pixels.shape[:2]))
        bgr = cv2.cvtColor(cv2.resize(pixels, None, fx=scale, fy=scale), cv2.COLOR_RGB2BGR)
        detector.setInputSize(bgr.shape[1::-1])
        _, found = detector.detect(bgr)
        for face in () if found is None else found:
            recognizer.feature(recognizer.alignCrop(bgr, face))

    return look


def text() -> Look:
    one_thread = {f"EngineConfig.onnxruntime.{pool}_op_num_threads": 1 for pool in ("intra", "inter")}
    sizes = {"Det.limit_type": "max", "Det.limit_side_len": 960}
    api = RapidOCR(params={"Global.log_level": "error", **one_thread, **sizes})
    return lambda pixels: api(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def moderation() -> Look:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(models.path("open-nsfw") / "open_nsfw.onnx"), options)

    def look(pixels: np.ndarray) -> None:
        file = io.BytesIO()
        Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR).save(file, "JPEG")
        crop = np.asarray(Image.open(file), np.float32)[16:240, 16:240, ::-1] - np.float32([104, 117, 123])
        session.run(None, {"input_0": np.ascontiguousarray(crop[None])})

    return look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--photos", type=int, default=400)
    arguments = parser.parse_args()
    single_thread()
    looks = {
        "faces": faces(),
        "labels": ours("labels"),
        "moderation": moderation(),
        "objects": ours("objects"),
        "text": text(),
    }
    print(machine())
    spent: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        print(make_archive(folders(arguments.folder), arguments.photos, Path(scratch) / "archive"))
        for number, file in enumerate(sorted((Path(scratch) / "archive").iterdir())):
            if number == WARM_UP:
                spent.clear()
            began = time.process_time()
            pixels = np.asarray(Image.open(file).convert("RGB"))
            spent["decode"] += time.process_time() - began
            for name, look in looks.items():
                began = time.process_time()
                look(pixels)
                spent[name] += time.process_time() - began
    for name, seconds in spent.items():
        print(f"{name:12}  {1000 * seconds / (arguments.photos - WARM_UP):7.2f} ms of CPU a photo")
    print(f"{'together':12}  {1000 * spent.total() / (arguments.photos - WARM_UP):7.2f}")


if __name__ == "__main__":
    main()
