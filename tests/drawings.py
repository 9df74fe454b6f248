"""Pictures that tests draw, so that they need none from elsewhere."""

from collections.abc import Iterable
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

#: How a picture is stored under each EXIF orientation: how to turn it before it is written.
STORED = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}


def drawn_faces(size: tuple[int, int], faces: Iterable[tuple[float, float, float]]) -> Image.Image:
    """Faces on a plain ground, each by the x and y of the point between its eyes, in pixels, and its scale.

    A face at scale 1 is 164 pixels wide, its eyes 66 apart; it looks at one, and its hair is parted on one side.
    """
    image = Image.new("RGB", size, (150, 170, 185))
    draw = ImageDraw.Draw(image)
    for x, y, scale in faces:

        def oval(
            across: float,
            down: float,
            wide: float,
            high: float,
            colour: Any,
            x: float = x,
            y: float = y,
            scale: float = scale,
        ) -> None:
            left, top = x + (across - wide) * scale, y + (down - high) * scale
            draw.ellipse((left, top, left + 2 * wide * scale, top + 2 * high * scale), fill=colour)

        oval(0, 250, 150, 130, (50, 70, 120))
        draw.rectangle((x - 38 * scale, y + 88 * scale, x + 38 * scale, y + 150 * scale), fill=(175, 140, 117))
        oval(0, -17, 98, 118, (60, 40, 30))
        oval(0, 8, 82, 112, (224, 180, 150))
        oval(-60, -85, 40, 25, (60, 40, 30))
        for side in (-1, 1):
            oval(side * 33, -2, 20, 12, (175, 140, 117))
            oval(side * 33, 0, 17, 8, (245, 245, 245))
            oval(side * 33, 0, 8, 8, (50, 40, 30))
            oval(side * 33, -27, 22, 4, (60, 40, 30))
            oval(side * 9, 47, 5, 3, (110, 70, 60))
        nose = [(-6, 0), (6, 0), (14, 44), (0, 51), (-14, 44)]
        draw.polygon([(x + across * scale, y + down * scale) for across, down in nose], fill=(208, 167, 140))
        oval(0, 41, 13, 10, (240, 194, 162))
        oval(0, 76, 28, 11, (175, 75, 75))
        oval(0, 76, 27, 2, (110, 40, 40))
    return image.filter(ImageFilter.GaussianBlur(1.5))
