"""Folders of models are anyone's: what would have other things read, fetched or run is refused, in one line."""

import json
import shutil

import pytest

from pinakes.operators.errors import OperatorError
from pinakes.operators.operator import create
from tests import tiny_models


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny_models.make("vit", tmp_path_factory.mktemp("vit") / "vit")


@pytest.mark.parametrize(
    ("file", "settings", "said"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "evil.Config"}}, "code of its own"),
        ("config.json", {"transformers_weights": "other.safetensors"}, "transformers_weights"),
        ("config.json", {"backbone": "somebody/model", "use_timm_backbone": False}, "backbone"),
        ("config.json", {"vision_config": {"backbone": "resnet50"}}, "backbone"),
        ("config.json", {"_attn_implementation": "somebody/kernel"}, "_attn_implementation"),
        ("config.json", {"architectures": [["x"]]}, "not an image classifier"),
        ("config.json", {"architectures": {"x": 1}}, "not an image classifier"),
        ("config.json", {"architectures": None}, "not an image classifier"),
        ("adapter_config.json", {"peft_type": "LORA"}, "adapter"),
        ("preprocessor_config.json", {"size": {"height": 40_000, "width": 40_000}}, "sides of over 4,096"),
    ],
)
def test_what_reaches_beyond_the_models_own_files_is_refused(file, settings, said, vit, tmp_path):
    place = shutil.copytree(vit, tmp_path / "model")
    before = json.loads((place / file).read_text()) if (place / file).exists() else {}
    (place / file).write_text(json.dumps({**before, **settings}))
    with pytest.raises(OperatorError, match=said) as raised:
        create("labels", {"model": str(place)}).resolve("cpu")
    assert "\n" not in str(raised.value)


def test_labels_that_are_no_list_are_refused(vit, tmp_path):
    place = shutil.copytree(vit, tmp_path / "model")
    settings = json.loads((place / "config.json").read_text())
    for labels in ({"0": "a", "2": "b"}, ["a", "b"], "ab"):
        (place / "config.json").write_text(json.dumps({**settings, "id2label": labels}))
        operator = create("labels", {"model": str(place)})
        operator.resolve("cpu")
        with pytest.raises(OperatorError, match="does not number its labels"):
            _ = operator.fingerprint
