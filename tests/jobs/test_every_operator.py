"""All operators over the same few pictures, planned, looked at and committed: what the tables say together."""

from collections.abc import Mapping

import pytest

from pinakes.catalog import Catalog
from pinakes.operators.decode import single_thread
from pinakes.operators.operator import Operator, available, create
from tests import tiny_models
from tests.drawings import drawn_faces
from tests.jobs.small_run import jpeg, small_jpeg, small_run, stop_sign


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Operator]:
    """Every one that looks at stills; of faces all that can be asked for, of moderation a row for every picture."""
    settings = {
        "embeddings": {"model": str(tiny_models.make("dinov2", tmp_path_factory.mktemp("model")))},
        "faces": {"age": True, "gender": True, "emotions": True},
        "moderation": {"min_confidence": 0},
    }
    single_thread()
    every = {name: create(name, settings.get(name)) for name in available()}
    made = {name: one for name, one in every.items() if "image" in one.media_types}
    for operator in made.values():
        operator.resolve("cpu")
        operator.fetch("cpu")
        operator.load()
    return made


@pytest.fixture(scope="module")
def catalog(operators: Mapping[str, Operator], tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("every")
    (folder / "photos").mkdir()
    (folder / "photos" / "sign.jpg").write_bytes(stop_sign())
    (folder / "photos" / "two.jpg").write_bytes(jpeg(drawn_faces((900, 600), [(250, 220, 1.0), (640, 240, 1.2)])))
    (folder / "photos" / "nothing.jpg").write_bytes(small_jpeg())
    first = small_run(folder / "photos", folder / "catalog", operators)
    assert first.looks == dict.fromkeys(operators, 3)
    again = small_run(folder / "photos", folder / "catalog", operators)
    assert again.due == 0
    return Catalog(str(folder / "catalog"))


def test_every_look_is_in_the_ledger_and_went_well(catalog: Catalog, operators: Mapping[str, Operator]) -> None:
    found = catalog.sql("SELECT operator, count(*) FILTER (status = 'ok') AS ok FROM latest_ledger GROUP BY operator")
    assert {row["operator"]: row["ok"] for row in found.to_pylist()} == dict.fromkeys(operators, 3)


def test_every_table_can_be_asked_together(catalog: Catalog) -> None:
    rows = catalog.sql("""
        SELECT parse_filename(uri) AS photo,
               (SELECT count(*) FROM latest_faces WHERE uri = media.uri) AS faces,
               (SELECT count(*) FROM latest_embeddings WHERE uri = media.uri) AS vectors,
               (SELECT list(text) FROM latest_texts WHERE uri = media.uri AND kind = 'line') AS lines,
               (SELECT list(name) FROM latest_objects WHERE uri = media.uri) AS objects,
               (SELECT count(*) FROM latest_moderation WHERE uri = media.uri AND box IS NULL) AS scores,
               (SELECT dominant_colors[1].simplified_name FROM latest_properties WHERE uri = media.uri) AS colour
        FROM latest_media AS media ORDER BY photo
    """).to_pylist()
    nothing, sign, two = rows
    assert (nothing["faces"], nothing["lines"], nothing["objects"]) == (0, None, None)
    assert (sign["faces"], sign["lines"], sign["objects"], sign["colour"]) == (0, ["STOP"], ["stop sign"], "blue")
    assert (two["faces"], two["vectors"]) == (2, 3)
    assert (nothing["vectors"], sign["vectors"]) == (1, 1)
    assert {row["scores"] for row in rows} == {1}


def test_vectors_of_faces_and_of_pictures_share_a_table(catalog: Catalog) -> None:
    found = catalog.sql("SELECT subject, count(*) AS rows, any_value(model) AS model FROM latest_embeddings GROUP BY 1")
    by_subject = {row["subject"]: row for row in found.to_pylist()}
    assert (by_subject["face"]["rows"], by_subject["image"]["rows"]) == (2, 3)
    assert by_subject["face"]["model"] != by_subject["image"]["model"]


def test_a_vector_is_of_a_face_and_of_the_model_that_made_it(catalog: Catalog) -> None:
    found = catalog.sql("""
        SELECT faces.face_id, age, gender, emotions, len(vector) AS numbers, embeddings.model
        FROM latest_faces AS faces JOIN latest_embeddings AS embeddings ON subject_id = face_id
    """).to_pylist()
    assert len({row["face_id"] for row in found}) == 2
    for row in found:
        assert (row["numbers"], row["model"]) == (128, "yunet-2023mar+sface-2021dec")
        assert 0 < row["age"] < 100
        assert row["gender"] in ("female", "male")
        assert len(row["emotions"]) == 7
