"""HEIC: what phones write, what hostile files try, and that a broken one costs no more than itself."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from pinakes.operators.decode import decode
from pinakes.operators.errors import ErrorCode, MediaError
from tests.drawings import STORED

ORIENTATION, EXIF_FOLDER, TAKEN = 0x0112, 0x8769, 0x9003


def heic(image, **settings):
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=settings.pop("quality", 90), **settings)
    return out.getvalue()


def close(pixels, reference, levels=4):
    assert pixels.shape == reference.shape
    assert np.abs(pixels.astype(int) - reference).mean() < levels


def code_of(data, **limits):
    with pytest.raises(MediaError) as refused:
        decode(data, "a.heic", **limits)
    assert "a.heic" in str(refused.value)
    return refused.value.code


@pytest.mark.parametrize("tiles", [{}, {"tile_size": 256}])
def test_it_shows_the_scene_under_any_name(scene, tiles):
    data = heic(scene, **tiles)
    for claimed in ("IMG_1.HEIC", "a.jpg", "notes.txt"):
        pixels, facts = decode(data, claimed)
        assert (facts.format, facts.width, facts.height, facts.orientation) == ("heic", 720, 480, 1)
    close(pixels, np.asarray(scene))
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    odd = scene.crop((0, 0, 201, 135))  # rows of no round length
    close(decode(heic(odd))[0], np.asarray(odd), 6)


@pytest.mark.parametrize("size", [(1919, 1000), (1920, 1280), (4032, 3024)])
def test_a_large_one_is_averaged(scene, size):
    large = scene.resize(size)
    factor = 1 if size[0] < 1920 else 2 if size[0] < 3840 else 4
    pixels, facts = decode(heic(large, tile_size=512, enc_params={"preset": "ultrafast"}))
    assert (facts.width, facts.height) == size
    close(pixels, np.asarray(large.reduce(factor)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(scene, orientation):
    """Phones say the turn twice, in the container and in EXIF."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = scene
    for turn in STORED[orientation]:
        stored = stored.transpose(turn)
    out = io.BytesIO()
    image = pillow_heif.HeifFile()
    image.add_frombytes("RGB", stored.size, stored.tobytes())
    image.save(out, quality=90, exif=exif.tobytes())
    data = out.getvalue()
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    pixels, facts = decode(data)
    assert (facts.width, facts.height, facts.orientation) == (720, 480, 1)
    close(pixels, np.asarray(scene))


def test_an_orientation_in_exif_alone_is_not_followed(scene):
    data = heic(scene, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x28\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    pixels, facts = decode(data.replace(b"\x01\x28\0\x03", b"\x01\x12\0\x03"))
    assert (facts.width, facts.height, facts.orientation) == (720, 480, 1)
    close(pixels, np.asarray(scene))


def test_the_camera_says_when_it_was_taken(scene):
    exif = Image.Exif()
    exif.get_ifd(EXIF_FOLDER)[TAKEN] = "2021:02:03 04:05:06"
    assert decode(heic(scene, exif=exif.tobytes()))[1].captured_at.isoformat() == "2021-02-03T04:05:06+00:00"


def test_other_kinds_of_pixels(scene):
    grey = scene.convert("L")
    close(decode(heic(grey))[0], np.asarray(grey.convert("RGB")))
    out = io.BytesIO()
    pillow_heif.encode("L;16", grey.size, (np.asarray(grey).astype(np.uint16) * 257).tobytes(), out, quality=90)
    close(decode(out.getvalue())[0], np.asarray(grey.convert("RGB")))
    out = io.BytesIO()
    pillow_heif.encode("RGB;16", scene.size, (np.asarray(scene).astype(np.uint16) * 257).tobytes(), out, quality=90)
    close(decode(out.getvalue())[0], np.asarray(scene))
    clear = scene.copy()
    clear.paste((0, 0, 0), (0, 0, 360, 480))
    clear.putalpha(Image.fromarray(np.repeat(np.uint8([0, 255]), 360)[None].repeat(480, 0)))
    white = scene.copy()
    white.paste("white", (0, 0, 360, 480))
    close(decode(heic(clear))[0], np.asarray(white))


def test_of_several_pictures_the_primary_one_counts(scene):
    file = pillow_heif.from_pillow(Image.new("RGB", (300, 200), "blue"))
    file.add_from_pillow(scene)
    out = io.BytesIO()
    file.save(out, quality=90, primary_index=1)
    close(decode(out.getvalue())[0], np.asarray(scene))
    out = io.BytesIO()
    file.save(out, quality=90, primary_index=0)
    assert decode(out.getvalue())[0].shape == (200, 300, 3)


def sized(data, width, height):
    """With another size in every header."""
    patched, at = bytearray(data), -1
    while (at := data.find(b"ispe", at + 1)) >= 0:
        struct.pack_into(">II", patched, at + 8, width, height)
    return bytes(patched)


def test_too_many_pixels_are_refused_from_the_header(scene):
    data = heic(scene)
    assert code_of(data, max_pixels=720 * 480 - 1) is ErrorCode.TOO_MANY_PIXELS
    assert code_of(sized(data, 30_000, 20_000)) is ErrorCode.TOO_MANY_PIXELS
    for width, height in ((4000, 4000), (64, 64), (480, 720), (0, 0)):
        assert code_of(sized(data, width, height)) is ErrorCode.CORRUPT


@pytest.mark.parametrize("tiles", [{}, {"tile_size": 128}])
@pytest.mark.parametrize("kept", [0.002, 0.02, 0.3, 0.7, 0.99])
def test_one_that_ends_early_is_truncated(large_scene, tiles, kept):
    data = heic(large_scene.crop((0, 0, 600, 400)), **tiles)
    cut = data[: int(len(data) * kept)]
    assert code_of(cut) is ErrorCode.TRUNCATED
    if kept > 0.1:
        assert code_of(cut + bytes(len(data) - len(cut))) is ErrorCode.TRUNCATED
    decode(data + b"trailing")


def box(kind, content):
    return struct.pack(">I", 8 + len(content)) + kind + content


def test_what_is_not_read_is_called_so(scene):
    sequence = box(b"ftyp", b"hevc\0\0\0\0msf1hevc") + box(b"moov", box(b"mvhd", bytes(100)))
    assert code_of(sequence) is ErrorCode.UNSUPPORTED_FORMAT
    assert code_of(box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(40))) is ErrorCode.CORRUPT


def test_headers_that_kill_its_reader_do_not_reach_it(scene):
    """Found by changing bytes at random: an item's kind that is no text, a false depth of a grey picture."""
    data = heic(scene.convert("L"), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    at = data.find(b"infe", data.find(b"infe") + 1)
    assert data[at + 12 : at + 16] == b"Exif"
    tried = [data[: at + 12] + b"\xa7" + data[at + 13 :]]
    at = data.find(b"hvcC") + 4
    for depth in (0xF9, 0xFA, 0xFC, 0xFF):  # bit_depth_luma_minus8 of ISO/IEC 14496-15, 8.3.3
        tried.append(data[: at + 17] + bytes([depth]) + data[at + 18 :])
    for broken in tried:
        command = [sys.executable, "-c", TRIAL, "0"]
        done = subprocess.run(command, input=broken, capture_output=True, timeout=60, check=True)
        assert json.loads(done.stdout) == {"corrupt": 1}


TRIAL = """
import collections, json, random, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.errors import MediaError
single_thread()
data, outcome = sys.stdin.buffer.read(), collections.Counter()
random.seed(5)
for trial in range(int(sys.argv[1]) or 1):
    broken = bytearray(data)
    if int(sys.argv[1]):
        for _ in range(random.randint(1, 6)):
            at = random.randrange(12, random.choice([900, len(data)]))
            broken[at] = random.choice([0, 1, 127, 128, 255, trial % 256])
    try:
        decode(bytes(broken))
        outcome["ok"] += 1
    except MediaError as refused:
        outcome[refused.code.value] += 1
json.dump(outcome, sys.stdout)
"""


def test_no_change_of_a_file_kills_its_reader(scene):
    small = scene.resize((180, 120))
    grey, clear = small.convert("L"), small.copy()
    clear.putalpha(grey)
    for data in (heic(small, tile_size=64), heic(grey, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"), heic(clear)):
        command = [sys.executable, "-c", TRIAL, "500"]
        done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=True)
        outcome = json.loads(done.stdout)
        assert sum(outcome.values()) == 500
        assert outcome["corrupt"] > 50
        assert done.stderr == b""
