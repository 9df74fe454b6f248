"""The operator `faces` against OpenCV's own FaceDetectorYN and FaceRecognizerSF, on drawn faces and on photos."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from pinakes.operators import models
from pinakes.operators.face_alignment import pose
from pinakes.operators.face_detection import SIZES
from pinakes.operators.operator import BOX, EMBEDDINGS, PICTURE, create

SIDES = ("left", "top", "width", "height")
POINTS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
GUESSES = ("age", "gender", "gender_confidence", "emotions")

#: Two faces, not alike in size.
TWO = [(180, 190, 1), (500, 240, 0.7)]


@pytest.fixture(scope="module")
def loaded(local_models):
    """A function: settings to a loaded operator; the same one for the same settings."""
    made = {}

    def load(**settings):
        key = tuple(sorted(settings.items()))
        if key not in made:
            made[key] = create("faces", settings)
            made[key].load()
        return made[key]

    return load


@pytest.fixture(scope="module")
def exact(loaded):
    return loaded(precision="f32")


@pytest.fixture(scope="module")
def reference(local_models):
    """A function: RGB pixels to rows of FaceDetectorYN (in those pixels), and vectors of FaceRecognizerSF."""
    detector_file = str(models.path("yunet-2023mar") / "face_detection_yunet_2023mar.onnx")
    recognizer_file = str(models.path("sface-2021dec") / "face_recognition_sface_2021dec.onnx")
    recognizer = cv2.FaceRecognizerSF.create(recognizer_file, "")

    def see(pixels, min_confidence=0.7):
        height, width = pixels.shape[:2]
        scale = min(1, 640 / max(height, width))
        small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
        small = pixels
        if scale <= 0.5:
            half = (round(width / 2), round(height / 2))
            small = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
        if scale < 1:
            small = cv2.resize(small, (small_width, small_height), interpolation=cv2.INTER_LINEAR)
        high, wide = min((s for s in SIZES if s[0] >= small_height and s[1] >= small_width), key=np.prod)
        canvas = np.pad(small[..., ::-1], ((0, high - small_height), (0, wide - small_width), (0, 0)))
        found = cv2.FaceDetectorYN.create(detector_file, "", (wide, high), min_confidence, 0.3, 5000).detect(canvas)[1]
        rows = np.zeros((0, 15), np.float32) if found is None else found
        rows[:, 0:14:2] *= width / small_width
        rows[:, 1:14:2] *= height / small_height
        rows = rows[np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")]
        picture = np.ascontiguousarray(pixels[..., ::-1])
        vectors = [recognizer.feature(recognizer.alignCrop(picture, row))[0].copy() for row in rows]
        return rows, [vector / np.linalg.norm(vector) for vector in vectors]

    return see


def look(operator, picture):
    """The rows of `faces`, each with its vector if it has one."""
    tables = operator.look([picture])
    vectors = {row["subject_id"]: np.array(row["vector"]) for row in tables["embeddings"].to_pylist()}
    return [{**row, "vector": vectors.get(row["face_id"])} for row in tables["faces"].to_pylist()]


def in_pixels(row, pixels):
    """Box, landmarks and score in the reference's order; the box is the part within the picture."""
    height, width = pixels.shape[:2]
    box = [row["box"][side] for side in SIDES] * np.array([width, height, width, height])
    points = [row["landmarks"][point][axis] * (width, height)["xy".index(axis)] for point in POINTS for axis in "xy"]
    return np.array([*box, *points, row["confidence"]])


def within(rows, pixels):
    """The reference's rows with their boxes cut at the picture's edge."""
    height, width = pixels.shape[:2]
    rows = rows.astype(np.float64)
    end = np.clip(rows[:, :2] + rows[:, 2:4], 0, [width, height])
    rows[:, :2] = np.clip(rows[:, :2], 0, [width, height])
    rows[:, 2:4] = end - rows[:, :2]
    return rows


def agree(faces, pixels, expected):
    rows, vectors = expected
    assert len(faces) == len(rows)
    for face, row, vector in zip(faces, within(rows, pixels), vectors, strict=True):
        assert in_pixels(face, pixels)[:14] == pytest.approx(row[:14], abs=2e-3)
        assert face["confidence"] == pytest.approx(row[14], abs=1e-5)
        assert face["vector"] @ vector > 0.9999


@pytest.mark.parametrize(
    ("size", "faces"),
    [
        ((720, 480), TWO),
        ((640, 360), [(300, 150, 0.8)]),
        ((300, 620), [(150, 250, 0.8)]),
        ((500, 500), [(250, 220, 1.2)]),
        ((1620, 1080), [(560, 430, 2.25), (1300, 500, 0.6)]),
        ((700, 300), [(40, 150, 1)]),
    ],
    ids=["3:2", "16:9", "tall", "square", "large", "cut by the edge"],
)
def test_answers_are_those_of_opencv(exact, reference, portrait, encoded, picture, size, faces):
    seen = picture(encoded(portrait(size, faces), "PNG"))
    answer = look(exact, seen)
    assert len(answer) == len(faces)
    agree(answer, seen.pixels, reference(seen.pixels))


def test_of_boxes_that_overlap_the_same_are_left_as_by_opencv(loaded, reference, portrait, encoded, picture):
    seen = picture(
        encoded(portrait((720, 480), [(250, 190, 1), (340, 240, 1), (480, 190, 0.8), (560, 230, 0.8)]), "PNG")
    )
    answer = look(loaded(precision="f32", min_confidence=0.02), seen)
    assert len(answer) > 4
    agree(answer, seen.pixels, reference(seen.pixels, 0.02))


def test_answers_are_those_of_opencv_on_photos(exact, reference, evaluation, picture):
    for folder in ("faces", "coco"):
        for photo in sorted((evaluation / folder).rglob("*.[jp][pn]g"))[::2]:
            seen = picture(photo)
            agree(look(exact, seen), seen.pixels, reference(seen.pixels))


def test_landmarks_are_named_from_the_subject(exact, portrait, encoded, picture):
    (face,) = look(exact, picture(encoded(portrait((720, 480), [(250, 190, 1)]), "PNG")))
    drawn = {"right_eye": (217, 190), "left_eye": (283, 190), "nose": (250, 230)}
    drawn |= {"right_mouth": (222, 266), "left_mouth": (278, 266)}
    for name, (x, y) in drawn.items():
        assert (face["landmarks"][name]["x"] * 720, face["landmarks"][name]["y"] * 480) == pytest.approx((x, y), abs=16)


def test_the_box_is_upright_whatever_the_orientation_in_the_file(exact, portrait, encoded, picture):
    image = portrait((720, 480), [(250, 190, 1)])
    exif = image.getexif()
    for orientation, turn in ((1, 0), (8, -90), (3, 180), (6, 90)):
        exif[0x0112] = orientation
        (face,) = look(exact, picture(encoded(image.rotate(turn, expand=True), exif=exif)))
        box = [face["box"][side] for side in SIDES]
        assert box == pytest.approx([171 / 720, 96 / 480, 158 / 720, 209 / 480], abs=0.02)


def test_bf16_gives_nearly_the_same(loaded, exact, portrait, encoded, picture):
    seen = picture(encoded(portrait((720, 480), TWO), "PNG"))
    for face, other in zip(look(loaded(precision="bf16"), seen), look(exact, seen), strict=True):
        width = other["box"]["width"] * seen.pixels.shape[1]
        assert face["confidence"] == pytest.approx(other["confidence"], abs=0.01)
        assert in_pixels(face, seen.pixels)[:14] == pytest.approx(in_pixels(other, seen.pixels)[:14], abs=0.03 * width)
        assert face["vector"] @ other["vector"] > 0.98


def test_bf16_gives_nearly_the_same_on_photos(loaded, exact, evaluation, picture):
    ours = theirs = 0
    cosines = []
    for photo in sorted((evaluation / "coco").glob("*.jpg")) + sorted((evaluation / "faces").rglob("*.jpg")):
        seen = picture(photo)
        faces, others = look(loaded(precision="bf16"), seen), look(exact, seen)
        ours, theirs = ours + len(faces), theirs + len(others)
        cosines += [max(face["vector"] @ other["vector"] for other in others) for face in faces if others]
    low, middle = np.quantile(cosines, [0.05, 0.5])
    print(f"faces: {ours} in bf16, {theirs} in f32; cosine median {middle:.4f}, 5 % below {low:.4f}")
    assert abs(ours - theirs) <= 0.03 * theirs
    assert middle > 0.998
    assert low > 0.97


def test_people_are_told_apart_on_photos(loaded, evaluation, picture):
    """Photos of one person each, by their names; OpenCV's threshold for the same person is a cosine of .363."""
    photos = {
        "obama": ["obama.jpg", "obama2.jpg", "obama3.jpg", "test/obama1.jpg"],
        "biden": ["biden.jpg", "train/biden/biden2.jpg"],
        "alex": ["test/alex_lacamoire1.jpg", "train/alex_lacamoire/img1.jpg"],
        "rose": ["train/rose_leslie/img1.jpg", "train/rose_leslie/img2.jpg"],
        "kit": ["test/johnsnow_test1.jpg"],
        "lin": ["lin-manuel-miranda.png"],
    }
    known = []
    for name, files in photos.items():
        for file in files:
            known.append((name, look(loaded(), picture(evaluation / "faces" / file))[0]["vector"]))
    pairs = [(a == b, u @ v) for (a, u), (b, v) in itertools.combinations(known, 2)]
    same, different = ([cosine for alike, cosine in pairs if alike is wanted] for wanted in (True, False))
    print(
        f"faces: same from {min(same):.3f} ({len(same)} pairs), different up to {max(different):.3f} ({len(different)})"
    )
    assert min(same) > 0.5
    assert max(different) < 0.363


def test_the_tables_have_the_columns_promised(exact, portrait, encoded, picture):
    tables = exact.look([picture(encoded(portrait((720, 480), TWO), "PNG"))])
    assert tables["embeddings"].schema.names == [PICTURE.name, *EMBEDDINGS.names]
    faces, vectors = (tables[name].to_pylist() for name in ("faces", "embeddings"))
    assert tables["faces"].schema.field("box").type == BOX
    assert [row["subject_id"] for row in vectors] == [row["face_id"] for row in faces]
    for row, vector in zip(faces, vectors, strict=True):
        assert vector["subject"] == "face"
        assert len(vector["vector"]) == 128
        assert np.linalg.norm(vector["vector"]) == pytest.approx(1, abs=1e-5)
        assert [row[name] for name in GUESSES] == [None] * 4
        assert set(row) == {PICTURE.name, *exact.tables["faces"].names}


def test_a_picture_without_faces_gives_no_rows(loaded, scene, portrait, encoded, picture):
    pictures = [encoded(scene), encoded(portrait((720, 480), TWO)), encoded(Image.new("RGB", (640, 480)))]
    tables = loaded().look([picture(data) for data in pictures])
    assert tables["faces"]["picture"].to_pylist() == [1, 1]
    assert tables["embeddings"]["picture"].to_pylist() == [1, 1]
    assert [len(table) for table in loaded().look([]).values()] == [0, 0]


def test_answers_do_not_depend_on_the_batch(loaded, scene, portrait, encoded, picture):
    images = [portrait((720, 480), TWO), scene, portrait((300, 620), [(150, 250, 0.8)]), portrait((720, 480), TWO)]
    pictures = [replace(picture(encoded(image)), item_key=f"{n:032x}") for n, image in enumerate(images)]
    together = loaded().look(pictures)
    for name, table in together.items():
        alone = [loaded().look([seen])[name].drop_columns("picture").to_pylist() for seen in reversed(pictures)]
        assert table.drop_columns("picture").to_pylist() == [row for rows in reversed(alone) for row in rows]


def test_an_id_is_of_one_face_in_one_item(loaded, portrait, encoded, picture):
    seen = replace(picture(encoded(portrait((720, 480), TWO))), item_key="a" * 32)

    def ids(operator, seen):
        return [row["face_id"] for row in operator.look([seen])["faces"].to_pylist()]

    first = ids(loaded(), seen)
    assert ids(loaded(), seen) == first
    others = [
        ids(loaded(), replace(seen, item_key="b" * 32)),
        ids(loaded(), replace(seen, frame_ms=0)),
        ids(loaded(), replace(seen, frame_ms=40)),
        ids(loaded(embeddings=False), seen),
    ]
    everything = [*first, *itertools.chain(*others)]
    assert len(everything) == len(set(everything)) == 10
    assert all(len(bytes.fromhex(face_id)) == 16 for face_id in everything)


def test_the_largest_faces_are_kept(loaded, portrait, encoded, picture):
    faces = [(100, 120, 0.4), (320, 200, 0.9), (560, 200, 0.6)]
    seen = picture(encoded(portrait((720, 480), faces)))
    assert [round(row["box"]["left"], 1) for row in look(loaded(), seen)] == [0.3, 0.7, 0.1]
    assert [round(row["box"]["left"], 1) for row in look(loaded(max_faces=2), seen)] == [0.3, 0.7]


def test_less_confident_faces_are_left_out(loaded, portrait, encoded, picture):
    seen = picture(encoded(portrait((720, 480), TWO)))
    scores = sorted(row["confidence"] for row in look(loaded(), seen))
    between = sum(scores) / 2
    assert [row["confidence"] for row in look(loaded(min_confidence=between), seen)] == scores[1:]


def test_models_are_named_only_when_asked_for():
    assert create("faces").model_names() == ("yunet-2023mar", "sface-2021dec")
    assert create("faces", {"embeddings": False}).model_names() == ("yunet-2023mar",)
    asked = create("faces", {"embeddings": False, "age": True, "gender": True, "emotions": True})
    assert asked.model_names() == ("yunet-2023mar", "dlib-age-v1", "dlib-gender-v1", "fer-2013")


def test_no_vectors_when_they_are_not_asked_for(loaded, portrait, encoded, picture):
    tables = loaded(embeddings=False).look([picture(encoded(portrait((720, 480), TWO)))])
    assert [len(table) for table in (tables["faces"], tables["embeddings"])] == [2, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 1900), (1900, 1), (3, 500), (31, 31)])
def test_a_strip_is_no_trouble(loaded, portrait, encoded, picture, size):
    image = portrait((720, 480), TWO).resize(size)
    operator = loaded(min_confidence=0, age=True, gender=True, emotions=True)
    for row in look(operator, picture(encoded(image, "PNG"))):
        box = row["box"]
        assert min(box["left"], box["top"]) >= 0
        assert min(box["width"], box["height"]) > 0
        assert max(box["left"] + box["width"], box["top"] + box["height"]) <= 1.00001
        numbers = [*row["pose"].values(), *row["quality"].values(), row["age"], row["gender_confidence"]]
        assert np.isfinite([*numbers, *row["vector"]]).all()


def test_a_mirrored_face_looks_the_other_way(exact, portrait, encoded, picture):
    image = portrait((720, 480), [(250, 190, 1)]).rotate(12, Image.Resampling.BICUBIC, fillcolor=(150, 170, 185))
    (face,), (mirrored,) = (look(exact, picture(encoded(i, "PNG"))) for i in (image, image.transpose(0)))
    assert abs(face["pose"]["roll"]) > 5
    for angle, sign in (("roll", -1), ("yaw", -1), ("pitch", 1)):
        assert mirrored["pose"][angle] == pytest.approx(sign * face["pose"][angle], abs=6)


def test_a_head_tilted_to_the_right_rolls_clockwise(exact, portrait, encoded, picture):
    """By less than it is tilted: the detector draws its landmarks towards the upright."""
    rolls = []
    for turn in (-25, 0, 25):
        image = portrait((720, 480), [(360, 220, 1)])
        image = image.rotate(-turn, Image.Resampling.BICUBIC, fillcolor=(150, 170, 185))
        rolls.append(look(exact, picture(encoded(image, "PNG")))[0]["pose"]["roll"])
    assert -30 < rolls[0] < -10 < rolls[1] < 10 < rolls[2] < 30


def seen_from(roll, yaw, pitch):
    """The landmarks of a head in general (x right, y down, z away), turned and seen from far away."""
    head = np.array([(-31.5, 0, 0), (31.5, 0, 0), (0, 36, -27), (-26, 73, -2), (26, 73, -2)])
    r, y, p = np.radians([roll, yaw, pitch])
    up = np.array([(1, 0, 0), (0, np.cos(p), np.sin(p)), (0, -np.sin(p), np.cos(p))])
    aside = np.array([(np.cos(y), 0, -np.sin(y)), (0, 1, 0), (np.sin(y), 0, np.cos(y))])
    round_ = np.array([(np.cos(r), -np.sin(r), 0), (np.sin(r), np.cos(r), 0), (0, 0, 1)])
    return (head @ (round_ @ aside @ up).T)[:, :2] * 1.7 + (300, 200)


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 0, 0), (0, 35, 0), (0, 0, -25), (160, -50, 15), (-40, 60, -30)])
def test_pose_is_that_of_the_head_that_shows_the_landmarks(angles):
    points = seen_from(*angles)
    assert pose(points) == pytest.approx(angles, abs=1e-6)
    roll, yaw, pitch = angles
    mirrored = (points * (-1, 1))[[1, 0, 2, 4, 3]]
    assert pose(mirrored) == pytest.approx((-roll, -yaw, pitch), abs=1e-6)


def test_a_nose_to_the_right_is_a_positive_yaw_and_a_nose_high_up_a_positive_pitch():
    front = seen_from(0, 0, 0)
    nose = np.array([[0], [0], [20], [0], [0]])
    assert pose(front + nose * (1, 0))[1] > 10
    assert pose(front - nose * (0, 1))[2] > 10


def test_quality_falls_with_light_and_focus(exact, portrait, encoded, picture):
    image = portrait((720, 480), [(250, 190, 1)])
    dark, blurred = image.point(lambda value: value // 3), image.filter(ImageFilter.GaussianBlur(4))
    plain, dim, soft = (look(exact, picture(encoded(i, "PNG")))[0]["quality"] for i in (image, dark, blurred))
    assert dim["brightness"] == pytest.approx(plain["brightness"] / 3, abs=0.02)
    assert soft["brightness"] == pytest.approx(plain["brightness"], abs=0.03)
    assert soft["sharpness"] < 0.5 * plain["sharpness"]
    assert all(0 <= value <= 1 for quality in (plain, dim, soft) for value in quality.values())


def test_quality_is_not_that_of_the_black_beyond_the_edge(exact, portrait, encoded, picture):
    whole = portrait((720, 480), [(250, 190, 1)])
    (uncut,) = look(exact, picture(encoded(whole, "PNG")))
    (cut,) = look(exact, picture(encoded(whole.crop((230, 0, 720, 480)), "PNG")))
    assert cut["landmarks"]["right_eye"]["x"] < 0.02  # the crop for SFace is black there
    for name in ("brightness", "sharpness"):
        assert cut["quality"][name] == pytest.approx(uncut["quality"][name], abs=0.2)
