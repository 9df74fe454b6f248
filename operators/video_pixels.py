"""A decoder's frame as pixels: the canonical picture, a thumbnail, and how much of it is black."""

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from pinakes.operators import decode
from pinakes.operators.errors import ErrorCode, MediaError

#: Width and height of a thumbnail.
THUMBNAIL = (48, 27)

#: A pixel is black whose luma is at most this share of the way from black to white: Rekognition's own measure.
DARK = 0.2

#: EXIF orientations by the signs of a display matrix: where the stored x axis points, then the stored y axis.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}

#: The average of what a pixel covers, with colours at the size that is asked for: by itself swscale halves them again.
#: Against an exact average it is off by 0.2 grey levels, without the second by 1.5; and bilinear takes longer.
_AREA = Interpolation.AREA | Interpolation.FULL_CHR_H_INT

#: Colour matrices that swscale knows, by the numbers of ISO/IEC 23091-2.
_MATRICES = frozenset([1, 4, 5, 6, 7, 9])

#: Larger films are high definition.
_SD_WIDTH, _SD_HEIGHT = 1279, 576


class Pixels:
    """Turns the frames of one video into arrays. Scalers are kept: setting one up takes as long as ten frames."""

    def __init__(self, first: av.VideoFrame, max_pixels: int) -> None:
        self.orientation = _orientation(first)
        self._max_pixels = max_pixels
        self._canonical, self._small = VideoReformatter(), VideoReformatter()

    def canonical(self, frame: av.VideoFrame) -> np.ndarray:
        """(height, width, 3) uint8 RGB; see decode.py. Not to be written to."""
        factor = decode.reduction(frame.width, frame.height, self._max_pixels)
        width, height = -(-frame.width // factor), -(-frame.height // factor)
        pixels = _rgb(self._canonical, frame, width, height)
        pixels = np.ascontiguousarray(decode.upright(pixels, self.orientation))
        pixels.flags.writeable = False
        return pixels

    def small(self, frame: av.VideoFrame) -> tuple[np.ndarray, float]:
        """A thumbnail, as stored, and the share of the pixels that are black."""
        thumbnail = np.ascontiguousarray(_rgb(self._small, frame, *THUMBNAIL))
        return thumbnail, _dark(frame, thumbnail)


def _rgb(scaler: VideoReformatter, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """As an array, which may be a view of the new frame's memory."""
    matrix: int | None = frame.colorspace
    if frame.format.is_rgb:
        matrix = None
    elif matrix not in _MATRICES:  # unsaid: what players take for granted
        high = frame.width > _SD_WIDTH or frame.height > _SD_HEIGHT
        matrix = Colorspace.ITU709 if high else Colorspace.ITU601
    try:
        scaled = scaler.reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=matrix,
            interpolation=_AREA,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
    except av.FFmpegError as error:
        raise MediaError(ErrorCode.CORRUPT, f"has a frame that is no picture ({error.strerror})") from None
    plane = scaled.planes[0]
    rows: np.ndarray = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
    return rows[:, : 3 * width].reshape(height, width, 3)


def _dark(frame: av.VideoFrame, thumbnail: np.ndarray) -> float:
    luma = frame.format.components[0]
    if frame.format.is_rgb or not frame.format.is_planar or luma.bits not in range(8, 17):
        return float((cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY) <= DARK * 255).mean())
    plane = frame.planes[0]
    kind = np.uint8 if luma.bits == 8 else np.dtype(">u2" if frame.format.is_big_endian else "<u2")
    rows: np.ndarray = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
    step = max(1, plane.height // 90)  # about ninety rows are enough
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    limit = (DARK * 255 if full else 16 + DARK * 219) * (1 << luma.bits - 8)
    return float((rows[step // 2 :: step, step // 2 :: step] <= limit).mean())


def _orientation(frame: av.VideoFrame) -> int:
    """What the display matrix says, as EXIF has it; of an oblique one the nearest."""
    side = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(side, SideData):
        return 1
    matrix = np.frombuffer(bytes(side), np.int32)[[0, 1, 3, 4]].astype(np.float64)
    largest = np.abs(matrix).max()
    if largest == 0:
        return 1
    a, b, c, d = (matrix / largest).round().astype(int).tolist()
    return _ORIENTATIONS.get((a, b, c, d), 1)
