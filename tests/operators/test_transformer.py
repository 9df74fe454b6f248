"""Models of one's own against the transformers library's own pipelines, on the same pixels, pre-processing included."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from pinakes.operators import models
from pinakes.operators.errors import ConfigError, ModelError
from pinakes.operators.operator import PICTURE, create
from tests import tiny_models

WORDS = ["a red sign", "dog", "tree", "sky", "stop"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Vectors of words of models that know nothing are not kept among others."""
    patch = pytest.MonkeyPatch()
    real = models.cache_folder()
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").mkdir()
    for model in real.iterdir() if real.exists() else ():
        if model.is_dir() and model.name not in ("hub", "vectors"):
            (folder / "models" / model.name).symlink_to(model)
    patch.setenv("PINAKES_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function: the folder of a small model of that kind."""
    made = {}

    def find(kind, **settings):
        name = "-".join([kind, *map(str, settings.values())])
        if name not in made:
            made[name] = tiny_models.make(kind, tmp_path_factory.mktemp(name) / name, **settings)
        return made[name]

    return find


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("\n".join(WORDS))
    return str(file)


@pytest.fixture(scope="module")
def images(scene):
    """Of three shapes; the last smaller than any model's input."""
    return [scene, scene.transpose(Image.Transpose.ROTATE_90).resize((300, 500)), scene.resize((40, 30))]


@pytest.fixture(scope="module")
def pictures(images, encoded, picture):
    return [picture(encoded(image, "PNG")) for image in images]


def ready(name, settings, device="cpu"):
    operator = create(name, settings)
    operator.resolve(device)
    operator.fetch(device)
    operator.load(device)
    return operator


def rows_of(table, position):
    return [row for row in table.to_pylist() if row["picture"] == position]


@pytest.mark.parametrize("kind", tiny_models.CLASSIFIERS)
def test_classifiers_answer_as_their_pipeline_does(kind, folder, images, pictures):
    operator = ready("labels", {"model": str(folder(kind)), "min_confidence": 0})
    pipeline = transformers.pipeline("image-classification", str(folder(kind)), use_fast=False, top_k=None)
    found = operator.look(pictures)["labels"]
    for position, image in enumerate(images):
        expected = {row["label"]: row["score"] for row in pipeline(image)}
        rows = rows_of(found, position)
        assert {row["name"]: row["confidence"] for row in rows} == pytest.approx(expected, abs=2e-5)
        assert [row["confidence"] for row in rows] == sorted((row["confidence"] for row in rows), reverse=True)
    assert len({round(row["confidence"], 4) for row in found.to_pylist()}) > 8, "the answers differ by picture"


@pytest.mark.parametrize("kind", tiny_models.CLASSIFIERS)
def test_logits_are_the_librarys_to_a_ten_thousandth(kind, folder, images, pictures):
    operator = ready("labels", {"model": str(folder(kind))})
    model = transformers.AutoModelForImageClassification.from_pretrained(folder(kind)).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder(kind), backend="pil")
    for image, picture in zip(images, pictures, strict=True):
        with torch.inference_mode():
            theirs = model(**processor(images=[image], return_tensors="pt")).logits
            inputs = torch.from_numpy(operator.prepare(picture)[None])
            ours = operator._network(pixel_values=operator._prepared.finish(inputs)).logits
        assert torch.allclose(ours, theirs, atol=1e-4, rtol=0)
        assert theirs.std() > 0.1


def test_several_labels_a_picture_are_judged_one_by_one(folder, images, pictures):
    place = str(folder("vit", problem_type="multi_label_classification"))
    found = ready("labels", {"model": place, "min_confidence": 0}).look(pictures)["labels"]
    pipeline = transformers.pipeline("image-classification", place, use_fast=False, top_k=None)
    expected = {row["label"]: row["score"] for row in pipeline(images[0])}
    assert {row["name"]: row["confidence"] for row in rows_of(found, 0)} == pytest.approx(expected, abs=2e-5)
    assert sum(expected.values()) != pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", tiny_models.IMAGE_TEXT)
def test_words_get_the_scores_of_the_zero_shot_pipeline(kind, folder, vocabulary, images, pictures):
    operator = ready("labels", {"model": str(folder(kind)), "vocabulary": vocabulary, "min_confidence": 0})
    pipeline = transformers.pipeline("zero-shot-image-classification", str(folder(kind)), use_fast=False)
    found = operator.look(pictures)["labels"]
    for position, image in enumerate(images):
        expected = {row["label"]: row["score"] for row in pipeline(image, candidate_labels=WORDS)}
        rows = {row["name"]: row["confidence"] for row in rows_of(found, position)}
        assert rows == pytest.approx(expected, abs=2e-5)
    total = sum(row["confidence"] for row in rows_of(found, 0))
    assert total == pytest.approx(1, abs=1e-4) if kind == "clip" else total != pytest.approx(1, abs=0.05)
    assert len({round(row["confidence"], 4) for row in found.to_pylist()}) > 8, "the answers differ by picture"


def test_templates_are_averaged_and_the_temperature_can_be_set(folder, vocabulary, pictures):
    templates = ("a photo of a {}.", "itap of the {}.", "{}")
    settings = {"model": str(folder("clip")), "vocabulary": vocabulary, "min_confidence": 0}
    found = ready("labels", {**settings, "templates": templates, "temperature": 0.1}).look(pictures)["labels"]
    model = transformers.CLIPModel.from_pretrained(folder("clip")).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder("clip"))
    processor = transformers.AutoImageProcessor.from_pretrained(folder("clip"), backend="pil")
    with torch.inference_mode():
        mean = 0
        for template in templates:
            tokens = tokenizer([template.format(word) for word in WORDS], padding=True, return_tensors="pt")
            mean = mean + torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output)
        image = processor(images=[Image.fromarray(pictures[0].pixels)], return_tensors="pt")
        seen = torch.nn.functional.normalize(model.get_image_features(**image).pooler_output)
        expected = (seen @ torch.nn.functional.normalize(mean).T / 0.1).softmax(-1)[0]
    rows = {row["name"]: row["confidence"] for row in rows_of(found, 0)}
    assert rows == pytest.approx(dict(zip(WORDS, expected.tolist(), strict=True)), abs=2e-5)


def test_vectors_of_words_are_worked_out_once(folder, vocabulary, pictures):
    settings = {"model": str(folder("clip")), "vocabulary": vocabulary, "templates": ("one {}",)}
    said = []
    for _ in range(2):
        operator = create("labels", settings)
        operator.resolve("cpu")
        operator.fetch("cpu", said.append)
    assert [line for line in said if "vectors of 5 words" in line] == said[-1:]
    # What travels to the processes that look is the name of the vectors, not the words' model.
    operator = pickle.loads(pickle.dumps(operator))
    operator.load()
    assert operator._network.text_model is None
    assert operator.look(pictures)["labels"].num_rows


def test_hierarchy_and_categories_come_from_the_vocabulary_or_from_wordnet(folder, tmp_path, pictures):
    file = tmp_path / "kinds.csv"
    file.write_text(
        "name,ancestors,categories\nstop sign,,\nmy street sign,street sign;sign,Roads;Our Own\nnobody knows,,\n"
    )
    found = ready("labels", {"model": str(folder("clip")), "vocabulary": str(file), "min_confidence": 0})
    rows = {row["name"]: row for row in rows_of(found.look(pictures)["labels"], 0)}
    assert rows["my street sign"]["ancestors"] == ["street sign", "sign"]
    assert rows["my street sign"]["categories"] == ["Roads", "Our Own"]
    assert "sign" in rows["stop sign"]["ancestors"]
    assert rows["nobody knows"]["ancestors"] == rows["nobody knows"]["categories"] == []


def test_labels_of_a_classifier_that_are_known_come_with_their_meaning(folder, pictures):
    found = ready("labels", {"model": str(folder("vit")), "min_confidence": 0}).look(pictures)["labels"]
    rows = {row["name"]: row for row in rows_of(found, 0)}
    assert rows["tabby, tabby cat"]["ancestors"][-2:] == ["animal", "living thing"]
    assert "Vehicles and Automotive" in rows["fire engine, fire truck"]["categories"]
    assert rows["unheard-of thing"]["ancestors"] == []


@pytest.mark.parametrize("kind", tiny_models.DETECTORS)
def test_detectors_find_what_their_pipeline_finds(kind, folder, images, pictures):
    operator = ready("objects", {"model": str(folder(kind)), "min_confidence": 0, "max_objects": 1000})
    pipeline = transformers.pipeline("object-detection", str(folder(kind)), use_fast=False, threshold=0.0)
    found = operator.look(pictures)["objects"]
    for position, image in enumerate(images):
        expected = sorted(pipeline(image), key=lambda row: -row["score"])
        rows = rows_of(found, position)
        # The pipeline's boxes may lie partly outside of the picture, ours end at its edges.
        assert 0 < len(rows) <= len(expected)
        for row in rows[:5]:
            assert any(is_same(row, theirs, image) for theirs in expected), row


def is_same(ours, theirs, image):
    """The pipeline's boxes are whole pixels."""
    left, top, width, height = (ours["box"][part] for part in ("left", "top", "width", "height"))
    edges = {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height}
    sides = {"x": image.width, "y": image.height}
    return (
        theirs["label"] == ours["name"]
        and theirs["score"] == pytest.approx(ours["confidence"], abs=2e-5)
        and all(
            min(max(theirs["box"][edge], 0), sides[edge[0]]) == pytest.approx(at * sides[edge[0]], abs=1.01)
            for edge, at in edges.items()
        )
    )


@pytest.mark.parametrize("kind", tiny_models.TOLD_IN_WORDS)
def test_words_are_looked_for_as_the_zero_shot_detector_does(kind, folder, vocabulary, images, pictures):
    settings = {"model": str(folder(kind)), "vocabulary": vocabulary, "min_confidence": 0, "max_objects": 1000}
    found = ready("objects", settings).look(pictures)["objects"]
    pipeline = transformers.pipeline("zero-shot-object-detection", str(folder(kind)), use_fast=False)
    for position, image in enumerate(images):
        expected = pipeline(image, candidate_labels=WORDS, threshold=0.0)
        rows = rows_of(found, position)
        # Of the pipeline's some lie beside the picture: OWLv2 looks at a square around it.
        assert len(expected) / 3 < len(rows) <= len(expected)
        assert all(any(is_same(row, theirs, image) for theirs in expected) for row in rows)
        assert len({round(row["confidence"], 5) for row in rows}) > 10


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit", "segformer"])
def test_embeddings_are_unit_vectors_of_the_model(kind, folder, images, pictures):
    operator = ready("embeddings", {"model": str(folder(kind))})
    found = operator.look(pictures)["embeddings"]
    assert found.schema.equals(pa.schema([PICTURE, *operator.tables["embeddings"]]), check_metadata=True)
    model = transformers.AutoModel.from_pretrained(folder(kind)).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder(kind), backend="pil")
    for row, image in zip(found.to_pylist(), images, strict=True):
        with torch.inference_mode():
            inputs = processor(images=[image], return_tensors="pt")
            if kind in ("clip", "siglip"):
                expected = model.get_image_features(**inputs).pooler_output[0]
            elif kind == "dinov2":
                expected = model(**inputs).pooler_output[0]
            elif kind == "segformer":  # a map of features
                expected = model(**inputs).last_hidden_state[0].mean((1, 2))
            else:  # the file of a classifier has no weights for pooling
                expected = model(**inputs).last_hidden_state[0, 0]
        expected = torch.nn.functional.normalize(expected, dim=0).numpy()
        assert np.abs(np.float32(row["vector"]) - expected).max() < 1e-5
        assert row["subject"] == "image"


def test_a_vector_is_named_by_its_item(folder, scene, encoded, picture):
    seen = replace(picture(encoded(scene)), item_key="0123")
    found = ready("embeddings", {"model": str(folder("clip"))}).look([seen])["embeddings"]
    assert found["subject_id"].to_pylist() == ["0123"]


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("labels", "vit", {}),
        ("labels", "siglip", {"vocabulary": "coco"}),
        ("objects", "yolos", {}),
        ("embeddings", "clip", {}),
    ],
)
def test_what_holds_for_every_operator(name, kind, settings, folder, pictures):
    operator = ready(name, {"model": str(folder(kind)), **settings})
    for batch in ([], pictures[:1], pictures):
        found = operator.look(batch)
        for table, schema in operator.tables.items():
            assert found[table].schema.equals(pa.schema([PICTURE, *schema]), check_metadata=True)
            found[table].validate(full=True)
    together = operator.look([*pictures, *pictures[::-1], pictures[0]])[name]
    for position, one in enumerate([*pictures, *pictures[::-1]]):
        alone = operator.look([one])[name].drop(["picture"]).to_pylist()
        rows = [{key: value for key, value in row.items() if key != "picture"} for row in rows_of(together, position)]
        assert len(rows) == len(alone)
        for ours, theirs in zip(rows, alone, strict=True):
            for key, value in ours.items():
                assert value == (pytest.approx(theirs[key], abs=1e-4) if key in ("confidence", "vector") else value)


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_half_precision_and_torchs_resizing_are_near(kind, folder, pictures):
    exact = ready("labels", {"model": str(folder(kind)), "min_confidence": 0}).look(pictures)["labels"]
    half = ready("labels", {"model": str(folder(kind)), "min_confidence": 0, "precision": "bf16"})
    assert half._network.dtype == torch.bfloat16
    found = half.look(pictures)["labels"]
    for position in range(len(pictures)):
        theirs = {row["name"]: row["confidence"] for row in rows_of(exact, position)}
        assert {row["name"]: row["confidence"] for row in rows_of(found, position)} == pytest.approx(theirs, abs=0.03)


def test_precision_follows_the_device_and_is_in_the_fingerprint(folder):
    prints = {}
    for device, precision in (("cpu", None), ("cuda", None), ("cpu", "bf16"), ("cuda", "f32")):
        operator = create("labels", {"model": str(folder("vit")), "precision": precision})
        operator.resolve(device)
        prints[device, precision] = operator.fingerprint
    assert prints["cpu", None] == prints["cuda", "f32"] != prints["cuda", None] == prints["cpu", "bf16"]
    for name, kind, expected in (("embeddings", "vit", "bf16"), ("objects", "yolos", "f32")):
        operator = create(name, {"model": str(folder(kind))})
        operator.resolve("cuda")
        assert operator.settings()["precision"] == expected


def test_the_fingerprint_is_of_contents_not_of_places(folder, vocabulary, tmp_path):
    def fingerprint(name="labels", **settings):
        operator = create(name, settings)
        operator.resolve("cpu")
        return operator.fingerprint

    here, moved = str(folder("clip")), str(shutil.copytree(folder("clip"), tmp_path / "moved"))
    words = str(shutil.copy(vocabulary, tmp_path / "same.txt"))
    before = fingerprint(model=here, vocabulary=vocabulary)
    assert fingerprint(model=moved, vocabulary=words) == before
    others = {
        fingerprint(model=here, vocabulary=vocabulary, templates=("{}",)),
        fingerprint(model=here, vocabulary=vocabulary, temperature=0.5),
        fingerprint(model=here, vocabulary="coco"),
        fingerprint("embeddings", model=here),
    }
    (tmp_path / "same.txt").write_text("\n".join(WORDS[::-1]))
    others.add(fingerprint(model=here, vocabulary=words))
    weights = load_file(f"{moved}/model.safetensors")
    weights["logit_scale"] += 0.5
    save_file(weights, f"{moved}/model.safetensors", {"format": "pt"})
    others.add(fingerprint(model=moved, vocabulary=vocabulary))
    assert len(others - {before}) == 6


def test_a_model_of_another_kind_is_refused_in_a_line(folder, vocabulary):
    for name, settings, said in (
        ("labels", {"model": str(folder("rt_detr"))}, "not an image classifier"),
        ("labels", {"model": str(folder("clip"))}, "not an image classifier"),
        ("labels", {"model": str(folder("vit")), "vocabulary": vocabulary}, "which a vocabulary is for"),
        ("objects", {"model": str(folder("vit"))}, "not a detector"),
        ("objects", {"model": str(folder("rt_detr")), "vocabulary": vocabulary}, "a vocabulary is for"),
        ("embeddings", {"model": str(folder("rt_detr"))}, "makes vectors of pictures"),
    ):
        with pytest.raises(ConfigError, match=said) as raised:
            create(name, settings).resolve("cpu")
        assert "\n" not in str(raised.value)


def test_wrong_settings_are_refused_in_a_line(folder, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "odd.csv").write_text("word\nfox\n")
    model = str(folder("clip"))
    for settings, said in (
        ({"vocabulary": "coco"}, "operator labels: model: Field required"),
        ({"model": model, "vocabulary": "coco", "templates": ("a photo",)}, "where the word goes"),
        ({"model": model, "vocabulary": "coco", "templates": ("{0.__class__}",)}, "where the word goes"),
        ({"model": model, "vocabulary": "coco", "temperature": 0}, "temperature"),
        ({"model": model, "vocabulary": str(tmp_path / "none.txt")}, "cannot be read"),
        ({"model": model, "vocabulary": str(tmp_path / "empty.txt")}, "has no words"),
        ({"model": model, "vocabulary": str(tmp_path / "odd.csv")}, "there must be name"),
    ):
        with pytest.raises(ConfigError, match=said):
            create("labels", settings).resolve("cpu")
    with pytest.raises(ConfigError, match="operator embeddings: model: Field required"):
        create("embeddings")


def test_weights_that_are_not_there_are_not_made_up(folder, tmp_path):
    place = shutil.copytree(folder("vit"), tmp_path / "headless")
    weights = {
        name: value for name, value in load_file(place / "model.safetensors").items() if "classifier" not in name
    }
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    operator = create("labels", {"model": str(place)})
    operator.resolve("cpu")
    with pytest.raises(ModelError, match=r"no weights for classifier\.bias and 1 more"):
        operator.load("cpu")


def test_a_model_that_wants_more_pixels_says_so(folder, tmp_path):
    place = shutil.copytree(folder("yolos"), tmp_path / "large")
    settings = json.loads((place / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 800, "longest_edge": 1333}
    (place / "preprocessor_config.json").write_text(json.dumps(settings))
    operator = create("objects", {"model": str(place)})
    operator.resolve("cpu")
    (remark,) = operator.remarks()
    assert "1066 x 800 pixels" in remark or "1056 x 800 pixels" in remark
    small = create("objects", {"model": str(folder("yolos"))})
    small.resolve("cpu")
    assert small.remarks() == []


@pytest.mark.parametrize("size", [(1, 1), (1, 1900), (1900, 1), (3, 700)])
@pytest.mark.parametrize(
    ("name", "kind"), [("labels", "vit"), ("labels", "convnext"), ("objects", "yolos"), ("embeddings", "clip")]
)
def test_a_strip_is_no_trouble(name, kind, size, folder, scene, encoded, picture):
    operator = ready(name, {"model": str(folder(kind)), **({"min_confidence": 0} if name != "embeddings" else {})})
    assert operator.look([picture(encoded(scene.resize(size), "PNG"))])[name].num_rows
