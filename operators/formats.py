"""What bytes and names claim to be, judged without decoding: kinds of media, a JPEG's frame, files that end early."""

import struct
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
}

#: Media whose content is recognised so that the error can name it.
_NOT_READ = {
    "heic": "HEIC pictures",
    "jxl": "JPEG XL pictures",
    "psd": "Photoshop files",
    "ico": "icons",
    "svg": "drawings (SVG)",
    "raw": "camera raw files",
    "video": "videos",
}

_EXTENSION_LIST = """
    jpg jpeg jpe jfif mpo png apng gif webp tif tiff bmp dib jp2 j2k jpf jpx j2c jpc avif avifs
    heic heif hif jxl psd psb ico cur svg tga pcx ppm pgm pbm pnm hdr exr dds sgi
    raw cr2 cr3 nef nrw arw srf sr2 dng orf rw2 raf pef srw x3f erf kdc dcr mrw 3fr iiq
    mp4 m4v mov qt mkv webm avi wmv asf flv f4v mpg mpeg mpe m2v ts mts m2ts 3gp 3g2 ogv vob mxf rm rmvb
"""
_EXTENSIONS = frozenset(_EXTENSION_LIST.split())


def claims_media(name: str) -> bool:
    """Whether a file's name ends as a picture's or a video's does."""
    return PurePosixPath(name.lower()).suffix.lstrip(".") in _EXTENSIONS


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
        (b"\x1a\x45\xdf\xa3", "video"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),
        (b"FLV\x01", "video"),
        (b"\x00\x00\x01\xba", "video"),
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
    if head[4:8] in (b"moov", b"mdat"):
        return "video"
    if b"<svg" in data[:1024].lower():
        return "svg"
    return None


def _ftyp(head: bytes) -> str | None:
    brands = head[8:64]
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    if head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
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
    if kind == "avif":
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


def _boxes_end_early(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        if size < 8:  # 0: to the end of the file; 1: a 64-bit size, which no picture needs
            return False
        at += size
    return at > len(data)
