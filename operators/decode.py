"""Bytes to the canonical picture: the one rule by which every operator gets its pixels.

The rule ("dct-area-960", see DECODE_RULE): with f the largest of 1, 2, 4, 8, ... that leaves a long side of at least
960 pixels, the picture is made f times smaller, so its long side is in [960, 1920), or what it was when that is less.
A JPEG is decoded at 1/2, 1/4 or 1/8 by scaling inside the inverse DCT, four to six times quicker than a full decode and
within 1 dB of it; any other format is decoded in full and averaged (INTER_AREA), and so is what remains beyond 8. Sizes
are rounded up. Then it is turned upright.

Transparency is laid on white, or on black when what is visible is nearly white. 16-bit samples keep their high byte;
samples with no fixed range (32-bit, float) are stretched from their own smallest to their largest. Of several frames or
pages the first counts. Colour profiles are not applied.

Memory at the peak, in bytes per original pixel, beside the file itself: a baseline JPEG next to none; a progressive one
3 (4:2:0) to 8 (CMYK); palettes, GIF and greys 4 or less; HEIC 5; opaque WebP 6; PNG, TIFF and BMP 7; AVIF 9; TIFF of
floats 13; WebP with transparency 16; JPEG 2000 in tiles 7, else 19, with transparency 25. So 7.5 GB is the most at the
default limit of 300 megapixels, and a picture of 100 takes 0.7 GB, or 2.5 as a JPEG 2000.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import PurePosixPath

import cv2
import numpy as np
import pi_heif
from PIL import AvifImagePlugin, ExifTags, Image, UnidentifiedImageError

from pinakes.operators import formats
from pinakes.operators.errors import ErrorCode, MediaError
from pinakes.operators.operator import MediaFacts
from pinakes.operators.quiet import quiet

#: Pictures above it are refused from their header: 300 megapixels, more than any camera makes.
MAX_PIXELS = 300_000_000

#: The canonical picture's long side is at least this, where the original's is.
LONG_SIDE = 960

#: Mean grey, of 255, of what is visible of a transparent picture, above which white would swallow it.
NEARLY_WHITE = 230

#: A progressive JPEG's scans are each a pass over the whole picture; encoders write about ten.
MAX_SCANS = 200

# Pillow's own guard would refuse from 179 megapixels on; ours is on every picture, so Pillow's moves up.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

#: Decoding at full size and inside the inverse DCT at 1/2, 1/4, 1/8, straight to RGB.
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}

# Pillow opens an MPO (several JPEGs in one file) as a JPEG, and has no opener of that name; HEIF it does not read.
_OPENERS = tuple(name for name in formats.READ if name not in ("MPO", "HEIF"))

_READABLE = ", ".join(sorted(set(formats.READ.values())))

#: Pixels taken out of a Pillow image at a time: they stay in the cache.
_BAND = 2**18

# What a photograph has beside its picture is not looked at.
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False


def single_thread() -> None:
    """Keeps decoders to one thread in this process: parallelism is over processes. Call it once, before any work."""
    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pi_heif.options.DECODE_THREADS = 1


def decode(data: bytes, name: str = "", max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, MediaFacts]:
    """The canonical picture of an image file, (height, width, 3) uint8 RGB, C-contiguous, read-only; and its facts.

    `name` (a file name or URL) decides what a file that is no picture claims to be, and stands in the error's text.
    Raises MediaError: EMPTY, NOT_MEDIA, UNSUPPORTED_FORMAT, TOO_MANY_PIXELS (from the header), TRUNCATED, CORRUPT,
    OUT_OF_MEMORY. A JPEG damaged in its middle whose end is there gives a damaged picture and no error.
    """
    try:
        if not data:
            raise MediaError(ErrorCode.EMPTY, "has zero bytes")
        with quiet():
            return _decode(data, max_pixels)
    except UnidentifiedImageError:
        error = _unidentified(data, name)
    except Image.DecompressionBombError:
        error = _too_many(f"more than {2 * MAX_PIXELS / 1e6:.0f}", max_pixels)
    except MediaError as refusal:
        error = refusal
    except MemoryError:
        error = MediaError(ErrorCode.OUT_OF_MEMORY, "needs more memory than there is to be decoded")
    except Exception as failure:  # decoders meet hostile bytes here, and raise nearly every type there is
        error = _failed(data, _text(failure))
    raise MediaError(error.code, f"{PurePosixPath(name).name or 'the file'}: {error}")


def _decode(data: bytes, max_pixels: int) -> tuple[np.ndarray, MediaFacts]:
    if formats.sniff(data) == "heic":
        return _heic(data, max_pixels)
    with Image.open(BytesIO(data), formats=_OPENERS) as image:
        width, height = image.size
        factor = reduction(width, height, max_pixels)
        kind = formats.READ[str(image.format)]
        if kind == "tiff" and _is_camera_raw(image):
            raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, "is a camera raw file, which is not read")
        if kind == "png":
            image.load()  # its EXIF may come after its pixels
        if kind == "avif":
            image.info.pop("xmp", None)  # Pillow would turn by it; the container's word, given as EXIF, is the last
        orientation, captured_at = _exif(image.getexif)
        if kind in ("jpeg", "mpo"):
            pixels = _jpeg(data, image, factor)
        else:
            pixels = _reduce(_webp(data, image) if kind == "webp" else _samples(image), factor)

    if kind == "tiff":  # Pillow turns these, and only these, upright by itself
        turned = False
    else:
        pixels = upright(pixels, orientation)
        turned = orientation >= 5
    pixels = np.ascontiguousarray(pixels)
    pixels.flags.writeable = False
    if turned:
        width, height = height, width
    return pixels, MediaFacts("image", kind, width, height, orientation, len(data), captured_at)


def reduction(width: int, height: int, max_pixels: int) -> int:
    """How many times smaller the canonical picture is. Raises MediaError for a size that is refused."""
    if width < 1 or height < 1:
        raise MediaError(ErrorCode.CORRUPT, f"says it is {width} x {height} pixels")
    if width * height > max_pixels:
        raise _too_many(f"{width} x {height} = {width * height / 1e6:.0f}", max_pixels)
    factor = 1
    while max(width, height) >= 2 * LONG_SIDE * factor:
        factor *= 2
    return factor


def _heic(data: bytes, max_pixels: int) -> tuple[np.ndarray, MediaFacts]:
    """The primary picture of a HEIF file whose pictures are coded as HEVC.

    libheif applies the container's own turn (irot, imir) and clip, and by the standard (ISO/IEC 23000-22) they are all
    there is: the EXIF orientation, which phones write as well, is not to be followed. So the facts say 1. libheif
    refuses a picture whose coded size is not the one in its header, which we have checked by then.
    """
    if not formats.heif_is_whole(data):  # libheif leaves tiles out in silence
        raise MediaError(ErrorCode.TRUNCATED, "ends before its picture does")
    if not formats.heif_names_are_text(data):
        raise MediaError(ErrorCode.CORRUPT, "names its parts by what is no text")
    try:
        # Rows and depths as libheif has them: pi_heif 1.4, asked to change those of a grey picture whose header gives a
        # false depth, writes beyond its memory.
        file = pi_heif.open_heif(data, remove_stride=False, hdr_to_16bit=False)
        if not len(file) or not file.info["primary"]:
            raise MediaError(ErrorCode.CORRUPT, "its primary picture cannot be read")
        width, height = file.size
        factor = reduction(width, height, max_pixels)
        pixels = _heif_samples(file)
    except (OSError, RuntimeError, SyntaxError, ValueError) as failure:
        raise _heif_failed(data, _text(failure)) from None
    if file.size != (width, height) or pixels.shape[:2] != (height, width):
        raise MediaError(ErrorCode.CORRUPT, "decodes to another size than its header says")
    captured_at = _exif(lambda: _exif_of(file.info["exif"]))[1]
    pixels = _reduce(pixels, factor) if factor > 1 else np.array(_reduce(pixels, 1))  # else libheif's memory is kept
    pixels.flags.writeable = False
    return pixels, MediaFacts("image", "heic", width, height, 1, len(data), captured_at)


def _heif_samples(file: pi_heif.HeifFile) -> np.ndarray:
    """As _samples; without transparency as a view of libheif's memory, where a Pillow image would be as much again."""
    if file.has_alpha:
        return _samples(file.to_pillow())
    rows = np.frombuffer(file.data, np.uint8).reshape(-1, file.stride)
    width, height = file.size
    if file.mode == "RGB":
        return rows[:, : 3 * width].reshape(height, -1, 3)
    if file.mode == "L":
        return rows[:, :width]
    deep = rows[:, : 2 * width].view(np.uint16)  # grey of 9 to 16 bits
    shallow: np.ndarray = deep >> (file.info["bit_depth"] - 8)
    return shallow.clip(max=255).astype(np.uint8)


def _webp(data: bytes, image: Image.Image) -> np.ndarray:
    """As _samples; without animation or transparency by OpenCV: the same pixels, two to three times quicker."""
    if image.mode == "RGB" and not getattr(image, "is_animated", False):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[1] | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None and pixels.shape[1::-1] == image.size:
            return pixels
    return _samples(image)  # or says what is wrong with it


def _jpeg(data: bytes, image: Image.Image, factor: int) -> np.ndarray:
    """(height, width, 3) uint8, scaled, not yet upright."""
    frame = formats.jpeg_frame(data)
    if frame is None or not formats.jpeg_is_whole(data, frame):  # OpenCV may return half a picture in silence
        raise MediaError(ErrorCode.TRUNCATED, "ends before its picture does (no end marker)")
    width, height = image.size
    if (frame.width, frame.height) != (width, height):
        raise MediaError(ErrorCode.CORRUPT, "has two frame headers that disagree about its size")
    if image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
        raise MediaError(ErrorCode.CORRUPT, f"has more than {MAX_SCANS} progressive scans")
    in_dct = min(factor, 8)
    pixels = None
    if frame.components != 4:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[in_dct] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        # CMYK; or OpenCV refused, and Pillow says why.
        image.draft(None, (max(1, width // in_dct), max(1, height // in_dct)))
        pixels = _samples(image)
    if pixels.shape[:2] != (-(-height // in_dct), -(-width // in_dct)):
        raise MediaError(ErrorCode.CORRUPT, "decodes to another size than its header says")
    return _reduce(pixels, factor // in_dct)


def _samples(image: Image.Image) -> np.ndarray:
    """All of Pillow's modes as (height, width, 3) uint8, RGB; of a grey picture (height, width)."""
    image.load()
    if image.mode.startswith("I;16"):
        bits = int(_tiff_tag(image, ExifTags.Base.BitsPerSample, (16,))[0])
        low = max(8, min(16, bits)) - 8
        return _in_bands(image, (), np.uint8, lambda band: np.asarray(band) >> low)
    if image.mode in ("I", "F"):
        return _stretch(_in_bands(image, (), np.float32, lambda band: np.array(band, np.float32)))
    if image.mode == "LAB":
        raise MediaError(ErrorCode.UNSUPPORTED_FORMAT, "has Lab colours, which are not read")
    if image.has_transparency_data:
        background = _background(image)
        return _in_bands(image, (3,), np.uint8, lambda band: _laid_on(background, band))
    if image.mode in ("1", "L"):
        return _in_bands(image, (), np.uint8, lambda band: np.asarray(band.convert("L")))
    return _in_bands(image, (3,), np.uint8, lambda band: np.asarray(band.convert("RGB")))


def _in_bands(
    image: Image.Image,
    channels: tuple[int, ...],
    kind: type[np.generic],
    convert: Callable[[Image.Image], np.ndarray],
) -> np.ndarray:
    """A whole Pillow image as an array, piece by piece: all at once takes two to three times the memory."""
    width, height = image.size
    rows = max(1, _BAND // width)
    if rows >= height:
        return convert(image).astype(kind, copy=False)
    whole = np.empty((height, width, *channels), kind)
    for top in range(0, height, rows):
        below = min(height, top + rows)
        whole[top:below] = convert(image.crop((0, top, width, below)))
    return whole


def _background(image: Image.Image) -> str:
    """What a transparent picture is laid on: white, or black when what is visible of it is itself nearly white."""
    small = image.resize([min(256, side) for side in image.size], Image.Resampling.NEAREST).convert("RGBA")
    grey, alpha = (np.asarray(part, np.float32) for part in (small.convert("L"), small.getchannel("A")))
    return "black" if (grey * alpha).sum() > NEARLY_WHITE * alpha.sum() else "white"


def _laid_on(background: str, image: Image.Image) -> np.ndarray:
    transparent = image if image.mode == "RGBA" else image.convert("RGBA")
    flat = Image.new("RGB", image.size, background)
    flat.paste(transparent, mask=transparent.getchannel("A"))
    return np.asarray(flat)


def _stretch(samples: np.ndarray) -> np.ndarray:
    """Float samples, which are overwritten to save memory, as uint8 from their smallest to their largest."""
    np.nan_to_num(samples, copy=False, posinf=0.0, neginf=0.0)
    low, high = float(samples.min()), float(samples.max())
    samples -= low
    samples *= 255.0 / (high - low) if high > low else 0.0
    return samples.round(out=samples).astype(np.uint8)


def _reduce(pixels: np.ndarray, factor: int) -> np.ndarray:
    """That many times smaller, and with three channels."""
    if factor > 1:
        height, width = pixels.shape[:2]
        pixels = cv2.resize(pixels, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation (tag 0x0112), 1..8."""
    if orientation in (5, 7):
        pixels = cv2.transpose(pixels)
    match orientation:
        case 2:
            return cv2.flip(pixels, 1)
        case 3 | 7:
            return cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            return cv2.flip(pixels, 0)
        case 6:
            return cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 8:
            return cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return pixels


def _exif(read: Callable[[], Image.Exif]) -> tuple[int, datetime | None]:
    """Orientation, 1 where there is none; and when it was taken, see MediaFacts. Bad EXIF counts as none."""
    orientation, taken = 1, None
    try:
        exif = read()
        if not exif:  # nothing in it, as in most pictures of the web
            return orientation, taken
        if exif.get(ExifTags.Base.Orientation) in range(1, 9):
            orientation = int(exif[ExifTags.Base.Orientation])
        camera = exif.get_ifd(ExifTags.IFD.Exif)
        said = camera.get(ExifTags.Base.DateTimeOriginal) or camera.get(ExifTags.Base.DateTimeDigitized)
        offset = camera.get(ExifTags.Base.OffsetTimeOriginal) or camera.get(ExifTags.Base.OffsetTimeDigitized)
        taken = datetime.strptime(str(said)[:19], "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        # Raises where there is no offset, or a bad one; then the line above stands.
        taken = datetime.strptime(f"{str(said)[:19]} {offset}", "%Y:%m:%d %H:%M:%S %z").astimezone(UTC)
    except Exception:  # EXIF is written by anyone and anyhow; a picture is not refused for it
        pass
    return orientation, taken


def _exif_of(data: bytes | None) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data or b"")
    return exif


def _tiff_tag(image: Image.Image, tag: int, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, otherwise)
    return value if isinstance(value, tuple) else (value,)


def _is_camera_raw(image: Image.Image) -> bool:
    """DNG, NEF and their like are TIFFs whose first page is a thumbnail, which must not pass for the picture."""
    is_reduced_copy = bool(int(_tiff_tag(image, ExifTags.Base.NewSubfileType, (0,))[0]) & 1)
    return is_reduced_copy or _tiff_tag(image, ExifTags.Base.DNGVersion, ()) != ()


def _text(failure: Exception) -> str:
    return " ".join(str(failure).split())[:200] or type(failure).__name__


def _too_many(said: str, limit: int) -> MediaError:
    return MediaError(ErrorCode.TOO_MANY_PIXELS, f"{said} megapixels are over the limit of {limit / 1e6:.0f}")


def _failed(data: bytes, reason: str) -> MediaError:
    if "out of memory" in reason.lower() or "insufficient memory" in reason.lower():
        return MediaError(ErrorCode.OUT_OF_MEMORY, f"needs more memory than there is to be decoded ({reason})")
    if "truncated" in reason.lower() or formats.ends_early(data):
        return MediaError(ErrorCode.TRUNCATED, f"ends before its picture does ({reason})")
    return MediaError(ErrorCode.CORRUPT, f"cannot be decoded ({reason})")


def _heif_failed(data: bytes, reason: str) -> MediaError:
    if formats.is_heif_sequence(data):
        return MediaError(ErrorCode.UNSUPPORTED_FORMAT, "is a HEIF sequence without a still picture, which is not read")
    if "Unsupported" in reason:
        return MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"is HEIF of a kind that is not read ({reason})")
    return _failed(data, reason)


def _unidentified(data: bytes, name: str) -> MediaError:
    """The error for bytes that no reader takes for its own."""
    kind = formats.sniff(data)
    if kind in formats.READ.values():
        return _failed(data, f"its {kind} header cannot be read")
    if kind == "video":
        said = (
            "is a video, and is not looked at as one, since its name does not end so (.mp4, .mov, .mkv, ...): rename it"
        )
        return MediaError(ErrorCode.UNSUPPORTED_FORMAT, said)
    if kind is not None:
        what = formats.not_read(kind)
        return MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"{what} are not read (read are: {_READABLE})")
    if not formats.claims_media(name):
        return MediaError(ErrorCode.NOT_MEDIA, "is not a picture, and its name does not say so")
    what = "is HTML and not an image" if formats.is_html(data) else "is not an image"
    return MediaError(ErrorCode.UNSUPPORTED_FORMAT, f"{what} of a kind that is read ({_READABLE})")
