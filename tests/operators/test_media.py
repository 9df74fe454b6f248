"""The operator `media`."""

from datetime import UTC, datetime

from pinakes.operators.operator import MediaFacts, Picture, create


def test_it_repeats_what_the_container_says(picture, encoded, scene):
    seen = picture(encoded(scene, "WEBP"))
    taken, stored = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=UTC)
    facts = MediaFacts("image", "jpeg", 4000, 3000, 6, 123, taken)
    table = create("media").look([seen, Picture(seen.pixels, facts, etag="abc", mtime=stored)])["media"]
    rows = table.to_pylist()
    assert rows[0] == {
        **dict.fromkeys(("etag", "mtime", "duration_ms", "fps", "codec", "captured_at")),
        "picture": 0,
        "media_type": "image",
        "format": "webp",
        "width": 720,
        "height": 480,
        "orientation": 1,
        "size": len(encoded(scene, "WEBP")),
    }
    assert rows[1]["picture"] == 1
    assert (rows[1]["width"], rows[1]["height"], rows[1]["orientation"]) == (4000, 3000, 6)
    assert (rows[1]["etag"], rows[1]["mtime"], rows[1]["captured_at"]) == ("abc", stored, taken)
