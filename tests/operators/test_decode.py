"""Bytes to the canonical picture: sizes, orientations, odd kinds of pixels, and what broken files are called."""

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

ORIENTATION, EXIF_FOLDER, TAKEN, OFFSET = 0x0112, 0x8769, 0x9003, 0x9011


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


TURNED = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_is_turned_upright(scene, encoded, kind, orientation):
    stored = scene
    for turn in TURNED[orientation]:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels, facts = decode(encoded(stored, kind, exif=exif))
    assert (facts.width, facts.height, facts.orientation) == (*scene.size, orientation)
    assert difference(pixels, np.asarray(scene)) < 4


def test_the_eight_example_photos_look_alike(evaluation):
    for shape in ("Landscape", "Portrait"):
        upright, _ = decode((evaluation / "exif" / f"{shape}_1.jpg").read_bytes())
        for orientation in range(2, 9):
            pixels, facts = decode((evaluation / "exif" / f"{shape}_{orientation}.jpg").read_bytes())
            assert facts.orientation == orientation
            assert difference(pixels, upright) < 12  # each file carries its own number in its corner


def test_the_camera_says_when_it_was_taken(scene, encoded):
    exif = Image.Exif()
    exif.get_ifd(EXIF_FOLDER)[TAKEN] = "2021:02:03 04:05:06"
    assert decode(encoded(scene, exif=exif))[1].captured_at == datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC)
    exif.get_ifd(EXIF_FOLDER)[OFFSET] = "+05:30"
    assert decode(encoded(scene, exif=exif))[1].captured_at == datetime(2021, 2, 2, 22, 35, 6, tzinfo=UTC)
    exif.get_ifd(EXIF_FOLDER)[TAKEN] = "0000:00:00 00:00:00"
    assert decode(encoded(scene, exif=exif))[1].captured_at is None


def test_transparency_is_laid_on_white(encoded):
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 128), (20, 0, 40, 20))
    for kind in ("PNG", "WEBP", "TIFF"):
        pixels, _ = decode(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert pixels[10, 5].tolist() == [255, 255, 255]
        assert np.abs(pixels[10, 30].astype(int) - [127, 127, 255]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(encoded, kind):
    high, low = np.arange(256), np.arange(256)[::-1]
    levels = np.tile((256 * high + low).astype(np.uint16), (16, 1))
    pixels, _ = decode(encoded(Image.fromarray(levels), kind))
    assert (pixels[0] == high[:, None]).all()


def test_samples_without_a_range_are_stretched(encoded):
    ramp = np.tile(np.linspace(-3.5, 900, 256, dtype=np.float32), (16, 1))
    for samples in (ramp, (ramp * 1000).astype(np.int32)):
        pixels, _ = decode(encoded(Image.fromarray(samples), "TIFF"))
        assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_other_kinds_of_pixels_show_the_same_scene(scene, encoded):
    scene_pixels = np.asarray(scene)
    palette, ink = scene.quantize(256), scene.convert("CMYK")
    for image, kind in (
        (palette, "PNG"),
        (palette, "GIF"),
        (ink, "JPEG"),
        (ink, "TIFF"),
        (scene, "BMP"),
        (scene, "AVIF"),
    ):
        assert difference(decode(encoded(image, kind))[0], scene_pixels) < 5
    large = scene.resize((2160, 1440))
    assert difference(decode(encoded(large.convert("CMYK")))[0], np.asarray(large.reduce(2))) < 5
    grey = np.asarray(scene.convert("L").convert("RGB"))
    assert difference(decode(encoded(scene.convert("L")))[0], grey) < 3


def test_of_an_animation_the_first_frame_counts(encoded):
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP"):
        pixels, _ = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert np.abs(pixels[15, 15].astype(int) - [255, 0, 0]).max() < 8


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
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "IMG_1.HEIC", ErrorCode.UNSUPPORTED_FORMAT),
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
