"""Every format that is read, in the kinds that the wild has of it: each shows the scene, whatever its name claims."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from pinakes.operators.decode import decode
from pinakes.operators.errors import ErrorCode, MediaError


def close(pixels, reference, levels=4):
    assert pixels.shape == reference.shape
    assert np.abs(pixels.astype(int) - reference).mean() <= levels


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def interlaced_png(image):
    """Adam7 (PNG specification, 8.2), which Pillow does not write."""
    pixels, data = np.asarray(image), b""
    for x, y, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        data += b"".join(b"\0" + row.tobytes() for row in pixels[y::down, x::across])
    header = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiled_tiff(image, side=128):
    """TIFF 6.0, section 15, which Pillow does not write: tiles of raw RGB, the last ones filled up."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % side), (0, -width % side), (0, 0)))
    tiles = [
        padded[top : top + side, left : left + side].tobytes()
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    count, directory = len(tiles), 8
    lists = directory + 2 + 10 * 12 + 4
    first = lists + 6 + 8 * count
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, lists),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, count, lists + 6),
        (325, 4, count, lists + 6 + 4 * count),
    ]
    data = b"II*\0" + struct.pack("<IH", directory, len(tags))
    data += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4) + struct.pack("<HHH", 8, 8, 8)
    data += struct.pack(f"<{count}I", *(first + len(tiles[0]) * number for number in range(count)))
    data += struct.pack(f"<{count}I", *(len(tile) for tile in tiles))
    return data + b"".join(tiles)


def ycck_jpeg(image, encoded):
    """Four inks turned to luma and chroma, as Photoshop stores them: Adobe's marker with transform 2, inks inverted."""
    inks = [np.asarray(plane) for plane in image.convert("CMYK").split()]
    luma = np.asarray(Image.fromarray(np.dstack(inks[:3])).convert("YCbCr"))
    stored = np.dstack([luma, 255 - inks[3]])
    data = bytearray(encoded(Image.frombytes("CMYK", image.size, (255 - stored).tobytes()), subsampling=0))
    at = data.find(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = 2
    return bytes(data)


def deep(scene, kind):
    """Three channels of 16 bits, whose low bytes are noise."""
    pixels = np.asarray(scene).astype(np.uint16) * 256 + np.random.default_rng(1).integers(0, 256, (480, 720, 3))
    return cv2.imencode(f".{kind}", np.ascontiguousarray(pixels[:, :, ::-1].astype(np.uint16)))[1].tobytes()


def opaque(scene):
    image = scene.copy()
    image.putalpha(255)
    return image


def frames(scene):
    return {"save_all": True, "append_images": [scene.transpose(Image.Transpose.ROTATE_180)]}


#: What is special about a file: how it is made of the scene, its format's name, how far its pixels may be on average.
KINDS = {
    "jpeg": (lambda scene, encoded: encoded(scene), "jpeg", 3),
    "jpeg progressive": (lambda scene, encoded: encoded(scene, progressive=True), "jpeg", 3),
    "jpeg cmyk": (lambda scene, encoded: encoded(scene.convert("CMYK")), "jpeg", 4),
    "jpeg ycck": (lambda scene, encoded: ycck_jpeg(scene, encoded), "jpeg", 4),
    "mpo": (lambda scene, encoded: encoded(scene, "MPO", quality=95, **frames(scene)), "mpo", 3),
    "png": (lambda scene, encoded: encoded(scene, "PNG"), "png", 0),
    "png 16 bits": (lambda scene, encoded: deep(scene, "png"), "png", 0),
    "png palette": (lambda scene, encoded: encoded(scene.quantize(256), "PNG"), "png", 4),
    "png alpha": (lambda scene, encoded: encoded(opaque(scene), "PNG"), "png", 0),
    "png interlaced": (lambda scene, encoded: interlaced_png(scene), "png", 0),
    "png animated": (lambda scene, encoded: encoded(scene, "PNG", **frames(scene)), "png", 0),
    "webp": (lambda scene, encoded: encoded(scene, "WEBP"), "webp", 3),
    "webp lossless": (lambda scene, encoded: encoded(scene, "WEBP", lossless=True), "webp", 0),
    "webp alpha": (lambda scene, encoded: encoded(opaque(scene), "WEBP"), "webp", 3),
    "webp animated": (lambda scene, encoded: encoded(scene, "WEBP", **frames(scene)), "webp", 3),
    "gif": (lambda scene, encoded: encoded(scene.quantize(256), "GIF"), "gif", 4),
    "gif animated": (lambda scene, encoded: encoded(scene.quantize(256), "GIF", **frames(scene)), "gif", 4),
    "tiff": (lambda scene, encoded: encoded(scene, "TIFF"), "tiff", 0),
    "tiff 16 bits": (lambda scene, encoded: deep(scene, "tiff"), "tiff", 0),
    "tiff pages": (lambda scene, encoded: encoded(scene, "TIFF", **frames(scene)), "tiff", 0),
    "tiff cmyk": (lambda scene, encoded: encoded(scene.convert("CMYK"), "TIFF"), "tiff", 4),
    "tiff tiles": (lambda scene, encoded: tiled_tiff(scene), "tiff", 0),
    "tiff lzw": (lambda scene, encoded: encoded(scene, "TIFF", compression="tiff_lzw"), "tiff", 0),
    "tiff deflate": (lambda scene, encoded: encoded(scene, "TIFF", compression="tiff_adobe_deflate"), "tiff", 0),
    "tiff jpeg": (lambda scene, encoded: encoded(scene, "TIFF", compression="jpeg", quality=95), "tiff", 3),
    "bmp": (lambda scene, encoded: encoded(scene, "BMP"), "bmp", 0),
    "bmp palette": (lambda scene, encoded: encoded(scene.quantize(256), "BMP"), "bmp", 4),
    "avif": (lambda scene, encoded: encoded(scene, "AVIF"), "avif", 4),
    "avif alpha": (lambda scene, encoded: encoded(opaque(scene), "AVIF"), "avif", 4),
    "avif animated": (lambda scene, encoded: encoded(scene, "AVIF", **frames(scene)), "avif", 4),
    "jp2": (lambda scene, encoded: encoded(scene, "JPEG2000"), "jpeg2000", 0),
    "jp2 alpha": (lambda scene, encoded: encoded(opaque(scene), "JPEG2000"), "jpeg2000", 0),
    "jpeg 2000 codestream": (lambda scene, encoded: encoded(scene, "JPEG2000", no_jp2=True), "jpeg2000", 0),
    "jpeg 2000 tiles": (lambda scene, encoded: encoded(scene, "JPEG2000", tile_size=(256, 256)), "jpeg2000", 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_the_scene_under_any_name(scene, encoded, kind):
    make, name, levels = KINDS[kind]
    data = make(scene, encoded)
    for claimed in ("a.jpg", "a.png", "notes.txt", ""):
        pixels, facts = decode(data, claimed)
        assert (facts.format, facts.width, facts.height, facts.orientation) == (name, 720, 480, 1)
        assert facts.size == len(data)
    close(pixels, np.asarray(scene), levels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_a_grey_picture_has_three_equal_channels(scene, encoded, kind):
    grey = scene.convert("L")
    close(decode(encoded(grey, kind))[0], np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bits_of_grey_keep_their_high_byte(encoded, kind):
    high, low = np.arange(256), np.arange(256)[::-1]
    levels = np.tile((256 * high + low).astype(np.uint16), (16, 1))
    pixels, _ = decode(encoded(Image.fromarray(levels), kind))
    assert (pixels[0] == high[:, None]).all()


def test_transparency_is_laid_on_white_in_every_format_that_has_it(encoded):
    image = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    image.paste((0, 0, 255, 128), (32, 0, 64, 32))
    for kind, settings in (
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("JPEG2000", {}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ):
        pixels, _ = decode(encoded(image, kind, **settings))
        assert np.abs(pixels[16, 8].astype(int) - 255).max() <= 2, kind
        assert np.abs(pixels[16, 48].astype(int) - [127, 127, 255]).max() <= 3, kind
    grey = Image.merge("LA", (Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 128)))
    assert np.abs(decode(encoded(grey, "PNG"))[0].astype(int) - 127).max() <= 1
    drawn = Image.new("P", (8, 8), 1)
    drawn.putpalette([0, 0, 0, 255, 0, 0])
    for kind in ("PNG", "GIF"):
        assert (decode(encoded(drawn, kind))[0] == [255, 0, 0]).all()
        assert (decode(encoded(drawn, kind, transparency=1))[0] == 255).all()
    one = Image.new("1", (8, 8), 1)
    one.paste(0, (0, 0, 4, 8))
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        assert decode(encoded(one, kind))[0][0, ::7].tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "CMYK"])
def test_a_large_picture_is_the_one_that_pillow_makes(large_scene, encoded, mode):
    """More than what is taken out of an image at a time, whose last piece is smaller."""
    image = {
        "P": large_scene.quantize(64),
        "I;16": Image.fromarray(np.asarray(large_scene.convert("L")).astype(np.uint16) * 256 + 7),
    }.get(mode) or large_scene.convert(mode)
    if mode == "RGBA":
        image.putalpha(large_scene.convert("L"))
    pixels, _ = decode(encoded(image, "TIFF"))
    white = Image.new("RGBA", image.size, "white")
    expected = {
        "I;16": lambda: large_scene.convert("L").convert("RGB"),
        "RGBA": lambda: Image.alpha_composite(white, image).convert("RGB"),
    }.get(mode, lambda: image.convert("RGB"))()
    assert np.abs(pixels.astype(int) - np.asarray(expected)).max() <= 1


def test_the_container_of_an_avif_has_the_last_word_on_its_turn(scene, encoded):
    exif = Image.Exif()
    exif[0x0128] = 6  # turned into an orientation, which Pillow would have taken out
    said = encoded(scene, "AVIF", exif=exif.tobytes())
    assert said.count(b"\x01\x28\x00\x03") == 1
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for data in (said.replace(b"\x01\x28\x00\x03", b"\x01\x12\x00\x03"), encoded(scene, "AVIF", xmp=packet)):
        pixels, facts = decode(data)
        assert (facts.width, facts.height, facts.orientation) == (720, 480, 1)
        close(pixels, np.asarray(scene))


def test_a_broken_webp_is_no_picture(scene, encoded):
    """It goes to a decoder that says less of what is wrong."""
    data = encoded(scene, "WEBP")
    for broken, code in (
        (data[: len(data) // 2], ErrorCode.TRUNCATED),
        (data[:20] + bytes(len(data) - 20), ErrorCode.CORRUPT),
    ):
        with pytest.raises(MediaError) as refused:
            decode(broken, "a.webp")
        assert refused.value.code is code


def test_what_follows_the_picture_does_no_harm(scene, encoded):
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"):
        assert decode(encoded(scene, kind) + b"trailing" * 9)[1].width == 720


def test_what_is_white_on_nothing_can_be_seen():
    """White writing on a transparent ground, as logos come: on white it would be gone."""
    for ink, seen in (("white", 0), ("black", 255), ((200, 30, 30), 255)):
        image = Image.new("RGBA", (400, 120), (255, 255, 255, 0))
        ImageDraw.Draw(image).text((20, 20), "PINAKES", ink, ImageFont.load_default(60))
        out = io.BytesIO()
        image.save(out, "PNG")
        pixels, _ = decode(out.getvalue())
        assert (pixels[:10] == seen).all()
        assert 0.03 < (pixels != seen).any(axis=2).mean() < 0.5
