"""What bytes and names claim to be, judged without decoding: kinds of media, a JPEG's frame, files that end early."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

#: Pillow's names of the formats that are read, and ours. Nothing else of Pillow's is reachable: no EPS (Ghostscript),
#: PDF, icons, fonts or the many rarely fuzzed formats.
READ = {
    "JPEG": "jpeg",
    "MPO": "mpo",
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "TIFF": "tiff",
    "BMP": "bmp",
    "JPEG2000": "jpeg2000",
    "AVIF": "avif",
    "HEIF": "heic",
}

#: Media whose content is recognised so that the error can name it.
_NOT_READ = {
    "jxl": "JPEG XL pictures",
    "psd": "Photoshop files",
    "ico": "icons",
    "svg": "drawings (SVG)",
    "raw": "camera raw files",
    "video": "videos",
}

_PICTURES = """
    jpg jpeg jpe jfif mpo png apng gif webp tif tiff bmp dib jp2 j2k jpf jpx j2c jpc avif avifs
    heic heif hif jxl psd psb ico cur svg tga pcx ppm pgm pbm pnm hdr exr dds sgi
    raw cr2 cr3 nef nrw arw srf sr2 dng orf rw2 raf pef srw x3f erf kdc dcr mrw 3fr iiq
"""
#: An item whose name ends so is a video; what it really is shows when it is opened.
_VIDEOS = """
    mp4 m4v mov qt mkv webm avi wmv asf flv f4v mpg mpeg mpe m2v ts mts m2ts 3gp 3g2 ogv vob mxf rm rmvb
"""
VIDEOS = frozenset(_VIDEOS.split())
_EXTENSIONS = frozenset(_PICTURES.split()) | VIDEOS


def claims_media(name: str) -> bool:
    """Whether a file's name ends as a picture's or a video's does."""
    return PurePosixPath(name.lower()).suffix.lstrip(".") in _EXTENSIONS


def is_html(data: bytes) -> bool:
    """What servers send in place of a file, under its name."""
    return data[:256].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def not_read(kind: str) -> str | None:
    """In words, what a kind of media is that is recognised but not read; None for one that is read."""
    return _NOT_READ.get(kind)


def sniff(data: bytes) -> str | None:
    """The kind of media by the first bytes: one of READ's values, a kind that is not read, or None."""
    head = data[:64]
    for magic, kind in (
        (b"\xff\xd8\xff", "jpeg"),
        (b"\x89PNG", "png"),
        (b"GIF8", "gif"),
        (b"\xff\x4f\xff\x51", "jpeg2000"),
        (b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
        (b"\xff\x0a", "jxl"),
        (b"\x00\x00\x00\x0cJXL ", "jxl"),
        (b"8BPS", "psd"),
        (b"\x00\x00\x01\x00", "ico"),
        (b"FUJIFILMCCD-RAW", "raw"),
        (b"\x00\x00\x01\xb3", "video"),
    ):
        if head.startswith(magic):
            return kind
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "raw" if head[8:10] == b"CR" else "tiff"
    if head[:2] == b"BM" and head[6:10] == b"\x00\x00\x00\x00":
        return "bmp"
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "video"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _ftyp(head)
    if container(data) is not None:
        return "video"
    if b"<svg" in data[:1024].lower():
        return "svg"
    return None


#: First bytes of containers of video.
_CONTAINERS = (
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"FLV\x01", "flv"),
    (b"\x00\x00\x01\xba", "mpegps"),
    (b"OggS", "ogg"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
)


def container(data: bytes) -> str | None:
    """The container of a video by the first bytes, a few thousand of them; None when it is none that is known."""
    for magic, kind in _CONTAINERS:
        if data.startswith(magic):
            return kind
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"\x42\x82\x84webm" in data[:64] else "mkv"
    if data[:4] == b"RIFF":
        return "avi" if data[8:12] == b"AVI " else None
    if data[4:8] == b"ftyp" and _ftyp(data[:64]) == "video":
        return "mov" if data[8:12] == b"qt  " else "mp4"
    # Films of before there was `ftyp`; words, unless a short length comes before them.
    if data[4:8] in (b"moov", b"mdat") or (data[4:8] in (b"wide", b"free", b"skip") and data[:2] == b"\0\0"):
        return "mov"
    # Packets of 188 bytes; on Blu-ray discs, each after four bytes of its time.
    for first, length in ((0, 188), (4, 192)):
        marks = data[first : first + 8 * length : length]
        if len(marks) >= 3 and set(marks) == {0x47}:
            return "mpegts"
    return None


def _ftyp(head: bytes) -> str | None:
    brands = head[8:64]
    if brands[:4] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"):
        return "heic"
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    if brands[:4] in (b"mif1", b"mif2", b"msf1"):
        return "heic"
    return "raw" if head[8:12] == b"crx " else "video"


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """A JPEG's own frame header and where its first scan begins (bytes from the start)."""

    width: int
    height: int
    components: int
    scan: int


def jpeg_frame(data: bytes) -> JpegFrame | None:
    """The frame that a decoder will find in a JPEG; None when the file is over before its first scan.

    Follows the marker segments, so the thumbnail inside an EXIF segment is stepped over. ITU-T T.81, annex B.
    """
    at, frame = 2, None
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            return None
        marker = data[at + 1]
        if marker in (0x00, 0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # no length follows
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            return None
        if marker == 0xDA:
            return JpegFrame(*frame, scan=at) if frame else None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and frame is None and at + 10 <= len(data):
            height, width, components = struct.unpack_from(">HHB", data, at + 5)
            frame = (width, height, components)
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def jpeg_is_whole(data: bytes, frame: JpegFrame) -> bool:
    """Whether an end marker follows the first scan. Its two bytes cannot occur inside a scan's data."""
    return data.rfind(b"\xff\xd9", frame.scan) >= 0


def ends_early(data: bytes) -> bool:
    """Whether the container says that more bytes should follow. Asked only of a file that a decoder has refused."""
    kind = sniff(data)
    if kind == "jpeg":
        frame = jpeg_frame(data)
        return frame is None or not jpeg_is_whole(data, frame)
    if kind == "png":
        return _chunks_end_early(data)
    if kind == "gif":
        return not data.rstrip(b"\x00").endswith(b";")
    if kind == "jpeg2000":
        return b"\xff\xd9" not in data[-64:]
    if kind == "webp":
        return len(data) < 12 or len(data) < 8 + struct.unpack_from("<I", data, 4)[0]
    if kind == "bmp":
        return len(data) < 54 or len(data) < struct.unpack_from("<I", data, 2)[0]
    if kind in ("avif", "heic"):
        return _boxes_end_early(data)
    if kind == "tiff":  # the directory that the header points to; its 64-bit kind is not looked into
        return len(data) < 8 or len(data) < struct.unpack_from("<I" if data[:1] == b"I" else ">I", data, 4)[0]
    return False


def _chunks_end_early(data: bytes) -> bool:
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return False
    return True


#: So many boxes, and pieces of items, are followed; libheif refuses files of more than a thousand items.
_MAX_BOXES = 10_000


def _boxes_end_early(data: bytes) -> bool:
    """Of a file of boxes: whether the last is cut off, or the file is over before the box that describes pictures."""
    found = list(_boxes(data, 0, len(data)))
    return not any(kind in (b"meta", b"moov") for kind, _, _ in found) or found[-1][2] > len(data)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of what is inside each box from there on (ISO/IEC 14496-12, 4.2); the end may be beyond."""
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        elif size == 0:
            size = end - at
        if size < start - at:
            return
        at += size
        yield kind, start, at


def heif_is_whole(data: bytes) -> bool:
    """Whether all the bytes of all items of a HEIF file are there; also when its boxes are not understood.

    Found are files cut off, and files never filled to their end: in a coded picture no eight zeros follow one another
    (ISO/IEC 23008-2, 7.4.2). The boxes are those of ISO/IEC 14496-12, 8.11.
    """
    try:
        for kind, start, end in _boxes(data, 0, len(data)):
            if kind == b"meta":
                inner = {kind: (start, end) for kind, start, end in _boxes(data, start + 4, min(end, len(data)))}
                coded = _coded_items(data, *inner[b"iinf"])
                return all(
                    at + length <= len(data) and (item not in coded or any(data[at + max(0, length - 8) : at + length]))
                    for item, at, length in _extents(data, *inner[b"iloc"])
                )
    except (KeyError, IndexError, struct.error):
        pass
    return True


def is_heif_sequence(data: bytes) -> bool:
    """Whether a HEIF file has a track, as a video has, and no picture beside it."""
    kinds = {kind for kind, _, _ in _boxes(data, 0, len(data))}
    return b"moov" in kinds and b"meta" not in kinds


def heif_names_are_text(data: bytes) -> bool:
    """Whether the kinds and names of a HEIF file's items are UTF-8, as they must be: pi_heif 1.4 dies of others."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            at = start
            # By their mark, not by the boxes around them, which libheif may follow in another way than we do.
            while (at := data.find(b"infe", at, end)) >= 0:
                size = int.from_bytes(data[at - 4 : at], "big")
                try:
                    data[at + (12 if data[at + 4] < 3 else 14) : min(end, at + size - 4)].decode()
                except (UnicodeDecodeError, IndexError):
                    return False
                at += 4
    return True


def _coded_items(data: bytes, start: int, end: int) -> set[int]:
    """The items of an `iinf` box that are pictures coded as HEVC."""
    coded = set()
    for kind, at, _ in _boxes(data, start + (6 if data[start] == 0 else 8), end):
        if kind == b"infe" and data[at] in (2, 3):
            item, _, coding = struct.unpack_from(">HH4s" if data[at] == 2 else ">IH4s", data, at + 4)
            if coding == b"hvc1":
                coded.add(item)
    return coded


def _extents(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Item, start and length in the file of each piece of each item, from an `iloc` box."""
    at = start + 4

    def number(size: int) -> int:
        nonlocal at
        if at + size > end:
            raise IndexError("the box ends")
        at += size
        return int.from_bytes(data[at - size : at], "big")

    version, sizes = data[start], number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version > 0 else 0
    id_size = 4 if version > 1 else 2
    followed = 0
    for _ in range(number(id_size)):
        item = number(id_size)
        in_file = number(2) & 15 == 0 if version > 0 else True
        number(2)
        base = number(base_size)
        for _ in range(number(2)):
            followed += 1
            if followed > _MAX_BOXES:
                return
            number(index_size)
            offset, length = number(offset_size), number(length_size)
            if in_file and length:
                yield item, base + offset, length
