"""One way from a picture to pixels, against what `datasets` and Pillow make of the same bytes."""

import base64
import io
import struct
import zlib

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from lewm_hf import LeWMImageProcessor, LeWMPlanner, pictures
from lewm_hf.data.storage import encoding
from lewm_hf.planning.frames import frame_size

OPENCV = {"with OpenCV": True, "Pillow alone": False}
# Every mode that shows the same once it is RGB.
MODES = {"RGB": ("PNG", "JPEG", "WEBP", "TIFF", "BMP"), "L": ("PNG", "JPEG", "TIFF"), "P": ("PNG", "GIF"),
         "1": ("PNG", "TIFF"), "RGBA": ("PNG", "WEBP"), "CMYK": ("JPEG", "TIFF")}  # fmt: skip


@pytest.fixture(params=OPENCV.values(), ids=OPENCV.keys())
def installed(request, monkeypatch):
    if request.param:
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(encoding, "cv2", None)


def picture(height=20, width=30, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(image: Image.Image, kind: str, orientation=None, **options) -> bytes:
    file = io.BytesIO()
    if orientation:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    image.save(file, kind, **options)
    return file.getvalue()


def by_datasets(data: bytes) -> np.ndarray:
    return np.asarray(datasets.Image(mode="RGB").decode_example({"bytes": data, "path": None}))


@settings(max_examples=80, deadline=None)
@given(
    mode_and_kind=st.sampled_from([(mode, kind) for mode, kinds in MODES.items() for kind in kinds]),
    orientation=st.sampled_from([None, *range(1, 9)]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    lossless=st.booleans(),
)
def test_every_file_is_what_datasets_shows(mode_and_kind, orientation, size, lossless):
    (mode, kind), options = mode_and_kind, {}
    if kind == "WEBP":
        options["lossless"] = lossless
    if orientation and kind not in ("JPEG", "PNG", "WEBP", "TIFF"):
        orientation = None
    data = save(picture(*size).convert(mode), kind, orientation, **options)
    expected, cv2 = by_datasets(data), encoding.cv2
    try:
        for encoding.cv2 in (cv2, None):
            np.testing.assert_array_equal(encoding.decode(data), expected)
            np.testing.assert_array_equal(encoding.decode(memoryview(data)), expected)
    finally:
        encoding.cv2 = cv2
    np.testing.assert_array_equal(pictures.rgb(Image.open(io.BytesIO(data))), expected)
    assert pictures.size(Image.open(io.BytesIO(data))) == expected.shape[:2]


def test_orientation_in_xmp_is_seen(installed):
    """Some programs write it there instead of into EXIF."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    chunk = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    data = save(picture(), "PNG")
    at = data.index(b"IDAT") - 4
    text = struct.pack(">I", len(chunk)) + b"iTXt" + chunk + struct.pack(">I", zlib.crc32(b"iTXt" + chunk))
    turned = encoding.decode(data[:at] + text + data[at:])
    np.testing.assert_array_equal(turned, by_datasets(data[:at] + text + data[at:]))
    assert turned.shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), "PNG", "mode I;16, more than 8 bits"),
        (Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8) * 1000), "TIFF", "mode I, more than 8 bits"),
        (Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), "TIFF", "mode F, more than 8 bits"),
        (Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "PNG", "transparent pixels"),
        (Image.new("LA", (8, 8), (10, 128)), "PNG", "transparent pixels"),
    ],
)
def test_what_rgb_cannot_show_is_refused_in_every_way(image, kind, message, installed, tmp_path):
    data = save(image, kind)
    (tmp_path / "x").write_bytes(data)
    processor = LeWMImageProcessor(image_size=8)
    for refuse in (
        lambda: encoding.decode(data),
        lambda: pictures.read(tmp_path / "x"),
        lambda: processor(Image.open(io.BytesIO(data))),
        lambda: processor(image),
    ):
        with pytest.raises(ValueError, match=message) as error:
            refuse()
        assert "\n" not in str(error.value)


def test_transparency_that_hides_nothing_is_fine(installed):
    image = picture().convert("RGBA")
    np.testing.assert_array_equal(encoding.decode(save(image, "PNG")), np.asarray(image)[..., :3])
    palette = picture().convert("P")
    unused = save(palette, "PNG", transparency=b"\xff" * 256)
    np.testing.assert_array_equal(encoding.decode(unused), np.asarray(palette.convert("RGB")))
    hidden = save(palette, "PNG", transparency=b"\0" * 256)
    with pytest.raises(ValueError, match="transparent"):
        encoding.decode(hidden)


def test_colors_of_16_bits_lose_their_lower_half_as_in_datasets(installed):
    cv2 = pytest.importorskip("cv2")
    deep = np.random.default_rng(0).integers(0, 1 << 16, (9, 7, 3), dtype=np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_array_equal(encoding.decode(data), by_datasets(data))


@pytest.mark.parametrize("kind", ["png", "webp0"])
def test_large_pictures_are_refused_whatever_decodes(kind, installed, monkeypatch):
    data = encoding.FrameEncoder(kind)(np.zeros((20, 30, 3), np.uint8))
    assert encoding.decode(data).shape == (20, 30, 3)
    for limit in (599, 100):  # Pillow itself warns above its limit, and refuses above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match="too large|30x20 pixels, more than the (599|100)"):
            encoding.decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert encoding.decode(data).shape == (20, 30, 3)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["png", "webp0", "JPEG"]), cut=st.floats(0, 0.95), flip=st.integers(0, 10**6))
def test_damaged_files_are_one_line_or_the_same_pixels(kind, cut, flip):
    """A bit that fell over must never give other pixels here than there."""
    frame = np.asarray(picture(24, 24).resize((48, 48)))
    data = save(Image.fromarray(frame), kind) if kind == "JPEG" else encoding.FrameEncoder(kind)(frame)
    truncated = data[: int(len(data) * cut)]
    damaged = bytearray(data)
    damaged[flip % len(data)] ^= 1 << flip % 8
    cv2 = encoding.cv2
    for broken in (truncated, bytes(damaged)):
        found = []
        try:
            for encoding.cv2 in (cv2, None):
                try:
                    found.append(encoding.decode(broken))
                except ValueError as error:
                    assert "\n" not in str(error)
                    found.append(None)
        finally:
            encoding.cv2 = cv2
        one, other = found
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
        assert broken is not truncated or one is None


def test_formats_that_start_programs_are_not_opened():
    data = save(picture(), "EPS")
    with pytest.raises(ValueError, match="cannot be decoded"):
        encoding.decode(data)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photo_gives_one_plan_however_it_comes(orientation, tiny_model, tmp_path):
    data = save(picture(40, 40), "PNG", orientation)
    (tmp_path / "photo.png").write_bytes(data)
    planner = LeWMPlanner(tiny_model, LeWMImageProcessor(image_size=28), samples=8, iterations=2, elites=2)
    goal = picture(40, 40, 1)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    encoded = base64.b64encode(data).decode()
    ways = {
        "path": str(tmp_path / "photo.png"), "Path": tmp_path / "photo.png", "opened": Image.open(io.BytesIO(data)),
        "upright": upright, "base64": encoded, "data URL": f"data:image/png;base64,{encoded}",
        "datasets": datasets.Image().decode_example({"bytes": data, "path": None}),
    }  # fmt: skip
    expected = planner(upright, goal)["actions"]
    for name, way in ways.items():
        np.testing.assert_array_equal(planner(way, goal)["actions"], expected, err_msg=name)


def test_sizes_are_those_of_the_upright_picture():
    turned = Image.open(io.BytesIO(save(picture(20, 30), "JPEG", 6)))
    assert frame_size(turned) == (30, 20) == frame_size(np.asarray(ImageOps.exif_transpose(turned)))


def test_pictures_that_cannot_be_read(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for source, kind, message in (
        ("missing.png", ValueError, "there is no picture missing.png"),
        (tmp_path, ValueError, "there is no picture"),
        (tmp_path / "text.png", ValueError, "cannot be decoded"),
        ("data:image/png;base64,AAAA", ValueError, "cannot be decoded"),
        ("http://127.0.0.1:9/x.png", OSError, "cannot be fetched"),
    ):
        with pytest.raises(kind, match=message) as error:
            pictures.read(source)
        assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    fit=st.sampled_from(pictures.FITS),
    batch=st.lists(st.integers(1, 3), max_size=2),
)
def test_square_against_pillow(size, fit, batch):
    frame = np.random.default_rng(size).integers(1, 256, (*size, 3), dtype=np.uint8)
    frames = torch.from_numpy(np.broadcast_to(frame, (*batch, *frame.shape)).copy())
    made = pictures.square(frames, fit).numpy()
    height, width = size
    if fit == "stretch":
        np.testing.assert_array_equal(made, frames)
        return
    side = min(size) if fit == "crop" else max(size)
    # Pillow fills what lies outside of a box with black, so one call crops and pads.
    left, top = (width - side) // 2, (height - side) // 2
    expected = np.asarray(Image.fromarray(frame).crop((left, top, left + side, top + side)))
    assert made.shape == (*batch, side, side, 3)
    np.testing.assert_array_equal(made.reshape(-1, side, side, 3)[-1], expected)
