"""The operator `properties`: colours and shares of drawn pictures, and what blur, darkness and flatness do."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFilter

from pinakes.operators.operator import create
from pinakes.operators.properties import dominant_colors

PLAIN = {"red", "pink", "orange", "yellow", "brown", "green", "cyan", "blue", "purple", "white", "grey", "black"}


@pytest.fixture(scope="module")
def look(encoded, picture):
    """A function: an image to its row; settings by name."""

    def row(image, **settings):
        return create("properties", settings).look([picture(encoded(image, "PNG"))])["properties"].to_pylist()[0]

    return row


@pytest.fixture(scope="module")
def flag():
    """Half navy, a quarter gold, an eighth each of white and of nearly white, which counts with it."""
    image = Image.new("RGB", (640, 384), "navy")
    draw = ImageDraw.Draw(image)
    draw.rectangle((320, 0, 479, 383), fill="gold")
    draw.rectangle((480, 0, 639, 191), fill="white")
    draw.rectangle((480, 192, 639, 383), fill=(248, 248, 248))
    return image


def test_colours_are_those_that_were_drawn(look, flag):
    colors = look(flag)["dominant_colors"]
    assert [color.pop("share") for color in colors] == [0.5, 0.25, 0.25]
    assert colors[:2] == [
        {"red": 0, "green": 0, "blue": 128, "hex": "#000080", "css_name": "navy", "simplified_name": "blue"},
        {"red": 255, "green": 215, "blue": 0, "hex": "#ffd700", "css_name": "gold", "simplified_name": "yellow"},
    ]
    assert (colors[2]["red"], colors[2]["css_name"], colors[2]["simplified_name"]) == (252, "white", "white")


def test_size_and_shape_of_the_picture_do_not_matter(look, flag):
    for size in ((40, 24), (1915, 301), (301, 1915)):
        colors = look(flag.resize(size, Image.Resampling.NEAREST))["dominant_colors"]
        assert [color["hex"] for color in colors[:2]] == ["#000080", "#ffd700"]
        assert [color["share"] for color in colors] == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


def test_no_more_colours_than_asked_for_and_none_at_all_for_none(look, flag):
    assert [color["css_name"] for color in look(flag, max_colors=1)["dominant_colors"]] == ["navy"]
    assert look(flag, max_colors=0)["dominant_colors"] == []


def test_letters_on_paper_are_two_colours_and_no_grey(look):
    page = Image.new("L", (900, 1200), 255)
    draw = ImageDraw.Draw(page)
    for line in range(20, 1180, 20):
        draw.rectangle((30, line, 870, line + 4), fill=0)
    assert [color["css_name"] for color in look(page)["dominant_colors"]] == ["white", "black"]


def test_every_css_colour_has_its_own_name_and_a_plain_one(look):
    for name in ("crimson", "hotpink", "orange", "gold", "sienna", "seagreen", "teal", "skyblue", "indigo", "linen"):
        color = look(Image.new("RGB", (20, 20), name))["dominant_colors"][0]
        assert color["css_name"] == name
        assert tuple(color[channel] for channel in ("red", "green", "blue")) == ImageColor.getrgb(name)
    for name in PLAIN:
        color = look(Image.new("RGB", (20, 20), name))["dominant_colors"][0]
        assert (color["css_name"], color["simplified_name"]) == (name, name)


@pytest.mark.parametrize(
    ("rgb", "plain"),
    [
        ((139, 122, 93), "brown"),  # dry grass
        ((70, 45, 30), "brown"),  # dark wood
        ((110, 75, 60), "brown"),  # dark skin
        ((55, 105, 95), "green"),  # leaves
        ((70, 85, 115), "blue"),  # jeans
        ((40, 90, 120), "blue"),  # sea
        ((105, 100, 95), "grey"),  # asphalt
        ((240, 238, 230), "white"),  # paper
        ((28, 28, 30), "black"),  # night
    ],
)
def test_plain_names_are_what_one_would_say(look, rgb, plain):
    assert look(Image.new("RGB", (8, 8), rgb))["dominant_colors"][0]["simplified_name"] == plain


def test_the_ends_of_the_scales(look):
    stripes = np.zeros((480, 480), np.uint8)
    stripes[:, ::2] = 255
    expected = ((Image.new("L", (500, 300)), 0, 0, 0), (Image.new("L", (500, 300), 255), 1, 0, 0))
    for image, brightness, sharpness, contrast in expected:
        row = look(image)
        assert (row["brightness"], row["sharpness"], row["contrast"]) == (brightness, sharpness, contrast)
    row = look(Image.fromarray(stripes))
    assert row["brightness"] == pytest.approx(0.5)
    assert row["contrast"] == pytest.approx(1, abs=0.01)
    assert row["sharpness"] > 0.8


def falls(look, copies, name, by=0.02):
    values = [look(copy)[name] for copy in copies]
    assert all(before - after > by for before, after in pairwise(values)), (name, values)


def test_blur_darkness_and_flatness_show_and_each_in_its_own_measure(look, large_scene):
    photo = large_scene.filter(ImageFilter.GaussianBlur(1))
    blurred = [photo, *(photo.filter(ImageFilter.GaussianBlur(radius)) for radius in (4, 8, 16))]
    darker = [ImageEnhance.Brightness(photo).enhance(factor) for factor in (1, 0.7, 0.4)]
    flatter = [ImageEnhance.Contrast(photo).enhance(factor) for factor in (1, 0.7, 0.4)]
    falls(look, blurred, "sharpness")
    falls(look, darker, "brightness")
    falls(look, flatter, "contrast")
    rows = [look(image) for image in (photo, blurred[1], darker[1], flatter[1])]
    assert rows[1]["brightness"] == pytest.approx(rows[0]["brightness"], abs=0.01)
    assert rows[1]["contrast"] == pytest.approx(rows[0]["contrast"], abs=0.03)
    assert rows[2]["sharpness"] == pytest.approx(rows[0]["sharpness"], abs=0.05)
    assert rows[3]["brightness"] == pytest.approx(rows[0]["brightness"], abs=0.02)
    assert rows[3]["sharpness"] == pytest.approx(rows[0]["sharpness"], abs=0.05)


def test_a_smaller_copy_measures_about_the_same(look, large_scene):
    row = look(large_scene)
    for size in ((1438, 959), (1200, 800), (901, 600), (720, 480)):
        copy = look(large_scene.resize(size, Image.Resampling.BOX))
        for name in ("brightness", "sharpness", "contrast"):
            assert copy[name] == pytest.approx(row[name], abs=0.05), (size, name)


@pytest.mark.parametrize("size", [(1, 1), (1, 1900), (1900, 1), (2, 2)])
def test_a_strip_is_no_trouble(look, scene, size):
    row = look(scene.resize(size))
    assert 0 < sum(color["share"] for color in row["dominant_colors"]) <= 1.00001
    assert all(0 <= row[name] <= 1 for name in ("brightness", "sharpness", "contrast"))


def test_photos(evaluation, picture):
    operator = create("properties")
    photos = [picture(file) for file in sorted((evaluation / "coco").glob("*.jpg"))]
    blurred = [replace(photo, pixels=cv2.GaussianBlur(photo.pixels, (0, 0), 3)) for photo in photos]
    rows, blurred_rows = (operator.look(seen)["properties"].to_pylist() for seen in (photos, blurred))
    for row, blurred_row, photo in zip(rows, blurred_rows, photos, strict=True):
        shares = np.array([color["share"] for color in row["dominant_colors"]])
        assert list(shares) == sorted(shares, reverse=True)
        assert 0.6 < sum(shares) <= 1.00001
        assert {color["simplified_name"] for color in row["dominant_colors"]} <= PLAIN
        colors = np.array([[color[name] for name in ("red", "green", "blue")] for color in row["dominant_colors"]])
        assert np.abs(shares @ colors / sum(shares) - photo.pixels.mean(axis=(0, 1))).max() < 30
        assert dominant_colors(photo.pixels, 3) == dominant_colors(photo.pixels, 20)[:3]
        assert row["sharpness"] > blurred_row["sharpness"] + 0.1
    sharpness = [row["sharpness"] for row in rows]
    print(f"properties, {len(rows)} photos: sharpness {min(sharpness):.2f} to {max(sharpness):.2f}")
