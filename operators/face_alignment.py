"""What the five landmarks of a face give: its crop turned upright, its pose, and the quality of the crop."""

import cv2
import numpy as np

#: The landmarks in the detector's order; left and right are the subject's own.
LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")

#: Where SFace learned to see them, in pixels of its 112 x 112 crop (the same in OpenCV's FaceRecognizerSF).
SIDE = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

#: A face in general, in mm from the point between the eyes: x to the picture's right, y down, z away from the camera.
#: Across, it is TEMPLATE with the eyes 63 mm apart; the depths are rounded from common generic models of a head.
HEAD = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 36, -27], [-26, 73, -2], [26, 73, -2]])
_FROM_HEAD = np.linalg.pinv(HEAD - HEAD.mean(axis=0))


def similarity(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The (2, 3) float64 turn, scale and shift that bring `points` nearest to `template`, both (n, 2); least squares.

    That is Umeyama's transform: in the plane and without mirroring it is one complex line through the points.
    """
    source, target = points @ (1, 1j), template @ (1, 1j)
    offset = source - source.mean()
    factor = np.vdot(offset, target) / np.vdot(offset, offset).real
    shift = target.mean() - factor * source.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def crop(pixels: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 3) uint8, bilinear, black outside the picture: OpenCV's own crop for SFace."""
    return cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR)


def pose(points: np.ndarray) -> tuple[float, float, float]:
    """Roll, yaw and pitch in degrees, of (5, 2) landmarks in pixels. Rough: five points and a face in general.

    Roll: positive when the head is turned clockwise as one sees the picture, -180..180. Yaw: positive when the nose
    points to the picture's right, that is the subject's own left, -90..90. Pitch: positive upwards, -180..180. They
    turn the head in the order pitch, yaw, roll, so a picture that is turned changes the roll and nothing else.

    The linear map from HEAD to the points, least squares, and the turn nearest to it: a camera far away. There is one
    answer, and a mirrored face has the mirrored one; OpenCV's SQPNP was within 3 degrees of it at the median, but of
    169 faces it jumped to another solution for 2 when they were mirrored and for 1 when it was turned by 20 degrees.
    """
    linear = (_FROM_HEAD @ (points - points.mean(axis=0))).T
    left, _, right = np.linalg.svd(linear, full_matrices=False)
    across, down = left @ right
    back = np.cross(across, down)
    angles = np.arctan2(down[0], across[0]), np.arcsin(np.clip(back[0], -1, 1)), -np.arctan2(back[1], back[2])
    return tuple(np.degrees(angles).tolist())


def quality(face: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float]:
    """Brightness and sharpness, both 0..1, of a crop by `matrix` from a picture of that (height, width, ...).

    Brightness is the mean luma (Rec. 601) over 255. Sharpness is v / (v + 300), v the variance of the Laplacian (3 x 3,
    four neighbours) of the luma 0..255. Only what lies inside the picture counts; 0 when nothing does.
    """
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    inside = _inside(matrix, face.shape[0], shape)
    if not inside.any():
        return 0.0, 0.0
    variance = float(cv2.Laplacian(luma, cv2.CV_32F)[inside].var())
    return float(luma[inside].mean()) / 255, variance / (variance + 300)


def _inside(matrix: np.ndarray, side: int, shape: tuple[int, ...]) -> np.ndarray:
    """(side, side) bool: the pixels of a crop that, with those around them, come from within the picture."""
    back = cv2.invertAffineTransform(matrix)
    margin = 2 * np.hypot(back[0, 0], back[1, 0])
    x, y = np.arange(side), np.arange(side)[:, None]
    across, down = (row[0] * x + row[1] * y + row[2] for row in back)
    wide, high = shape[1] - 1 - margin, shape[0] - 1 - margin
    inside: np.ndarray = (across >= margin) & (across <= wide) & (down >= margin) & (down <= high)
    return inside
