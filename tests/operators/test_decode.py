"""Bytes to the canonical picture: its size, odd kinds of pixels, and what broken files are called."""

import json
import os
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from pinakes.operators.decode import decode
from pinakes.operators.errors import ErrorCode, MediaError

EXIF_FOLDER, TAKEN, OFFSET = 0x8769, 0x9003, 0x9011


def difference(pixels, reference):
    """Mean difference of two pictures of one size, in levels of 0..255."""
    assert pixels.shape == reference.shape
    return np.abs(pixels.astype(int) - reference).mean()


def code_of(data, name="a.jpg", **limits):
    with pytest.raises(MediaError) as refused:
        decode(data, name, **limits)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    return refused.value.code


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "canonical"),
    [
        ((640, 480), (640, 480)),
        ((1919, 1000), (1919, 1000)),
        ((1920, 1001), (960, 501)),
        ((1000, 3841), (250, 961)),
        ((8000, 300), (1000, 38)),
        ((15360, 1600), (960, 100)),
    ],
)
def test_every_format_gives_the_picture_of_the_one_size_rule(scene, encoded, kind, size, canonical):
    original = scene.resize(size)
    pixels, facts = decode(encoded(original, kind))
    assert pixels.shape == (canonical[1], canonical[0], 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert (facts.width, facts.height, facts.format) == (*size, kind.lower())
    assert difference(pixels, np.asarray(original.resize(canonical, Image.Resampling.BOX))) < 4


def test_the_camera_says_when_it_was_taken(scene, encoded):
    exif = Image.Exif()
    exif.get_ifd(EXIF_FOLDER)[TAKEN] = "2021:02:03 04:05:06"
    assert decode(encoded(scene, exif=exif))[1].captured_at == datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC)
    exif.get_ifd(EXIF_FOLDER)[OFFSET] = "+05:30"
    assert decode(encoded(scene, exif=exif))[1].captured_at == datetime(2021, 2, 2, 22, 35, 6, tzinfo=UTC)
    exif.get_ifd(EXIF_FOLDER)[TAKEN] = "0000:00:00 00:00:00"
    assert decode(encoded(scene, exif=exif))[1].captured_at is None


def test_samples_without_a_range_are_stretched(encoded):
    ramp = np.tile(np.linspace(-3.5, 900, 256, dtype=np.float32), (16, 1))
    for samples in (ramp, (ramp * 1000).astype(np.int32)):
        pixels, _ = decode(encoded(Image.fromarray(samples), "TIFF"))
        assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_a_large_cmyk_jpeg_is_reduced_like_any_other(scene, encoded):
    large = scene.resize((2160, 1440))
    assert difference(decode(encoded(large.convert("CMYK")))[0], np.asarray(large.reduce(2))) < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_file_that_ends_early_is_truncated(scene, encoded, kind, kept):
    data = encoded(scene, kind)
    assert code_of(data[: int(len(data) * kept)]) is ErrorCode.TRUNCATED


def test_a_truncated_jpeg_is_found_behind_a_whole_thumbnail(scene, encoded):
    exif = b"Exif\x00\x00" + Image.Exif().tobytes()[6:] + encoded(scene.resize((160, 107)), quality=60)
    whole = encoded(scene)
    whole = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]
    decode(whole)
    assert code_of(whole[: len(whole) * 2 // 3]) is ErrorCode.TRUNCATED


@pytest.mark.parametrize("progressive", [False, True])
def test_a_download_that_was_never_filled_is_truncated(scene, encoded, progressive):
    data = encoded(scene, progressive=progressive)
    half = len(data) // 2
    assert code_of(data[:half] + bytes(len(data) - half)) is ErrorCode.TRUNCATED
    decode(data + bytes(1000))  # zeros behind a whole picture do no harm


def png(width, height):
    """A PNG of that many pixels in a few hundred bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def test_too_many_pixels_are_refused_from_the_header(scene, encoded):
    for width, height in ((30_000, 20_000), (2_000_000_000, 2_000_000_000)):
        assert code_of(png(width, height), "bomb.png") is ErrorCode.TOO_MANY_PIXELS
    for kind in ("JPEG", "PNG", "TIFF"):
        assert code_of(encoded(scene, kind), max_pixels=720 * 480 - 1) is ErrorCode.TOO_MANY_PIXELS
        decode(encoded(scene, kind), max_pixels=720 * 480)


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.jpg", ErrorCode.EMPTY),
        (b"", "notes.txt", ErrorCode.EMPTY),
        (b"<!DOCTYPE html><title>404</title>", "photo.jpg", ErrorCode.UNSUPPORTED_FORMAT),
        (b"hello", "notes.txt", ErrorCode.NOT_MEDIA),
        (b"%PDF-1.7 ...", "paper.pdf", ErrorCode.NOT_MEDIA),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00", "film", ErrorCode.UNSUPPORTED_FORMAT),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "IMG_1.HEIC", ErrorCode.TRUNCATED),
        (b"8BPS\x00\x01" + bytes(40), "layers", ErrorCode.UNSUPPORTED_FORMAT),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(100), "raw.cr2", ErrorCode.UNSUPPORTED_FORMAT),
        (b"BM" + bytes(100), "a.bmp", ErrorCode.CORRUPT),
        (png(0, 10), "a.png", ErrorCode.CORRUPT),
    ],
)
def test_what_is_no_picture_is_called_by_its_right_name(data, name, code):
    assert code_of(data, name) is code


def test_a_camera_raw_does_not_pass_its_thumbnail_for_the_picture(scene, encoded):
    thumbnail = encoded(scene.resize((160, 107)), "TIFF", tiffinfo={254: 1})
    assert code_of(thumbnail, "DSC_1.NEF") is ErrorCode.UNSUPPORTED_FORMAT


def test_a_broken_middle_is_no_crash_and_nothing_is_printed(scene, encoded, capfd):
    rng = np.random.default_rng(7)
    outcomes = set()
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF"):
        data = encoded(scene, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
        for _ in range(20):
            broken = bytearray(data)
            for at in rng.integers(20, len(data), 12):
                broken[at] = rng.integers(256)
            try:
                outcomes.add(decode(bytes(broken))[0].shape[2])
            except MediaError as refused:
                outcomes.add(refused.code)
    assert ErrorCode.CORRUPT in outcomes
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


TRIAL = """
import json, pathlib, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from pinakes.operators.decode import decode
from pinakes.operators.errors import MediaError
outcome = {}
for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        outcome[file.name] = decode(file.read_bytes(), file.name)[0].shape
    except MediaError as refused:
        outcome[file.name] = refused.code
print(json.dumps(outcome))
"""


def test_no_broken_file_crashes_hangs_or_exhausts_memory(evaluation):
    command = [sys.executable, "-c", TRIAL, str(evaluation / "broken")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    outcome = json.loads(done.stdout)
    assert len(outcome) == len(list((evaluation / "broken").iterdir()))
    assert {name: found for name, found in outcome.items() if name.startswith(("hopper.", "flower"))} == {
        "flower.jpg": [360, 480, 3],
        "flower.webp": [360, 480, 3],
        "flower2.jpg": [225, 300, 3],
        "flower2.webp": [225, 300, 3],
        "flower_thumbnail.png": [120, 160, 3],
        **{f"hopper.{kind}": [128, 128, 3] for kind in ("bmp", "gif", "jpg", "png", "tif", "webp")},
        **{f"hopper.iccprofile{kind}.tif": [128, 128, 3] for kind in ("", "_binary")},
    }
    assert {
        name: outcome[name] for name in ("truncated_image.png", "truncated_jpeg.jpg", "decompression_bomb.gif")
    } == {
        "truncated_image.png": "truncated",
        "truncated_jpeg.jpg": "truncated",
        "decompression_bomb.gif": "too_many_pixels",
    }
