import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lewm_hf.data.storage import encoding
from lewm_hf.data.storage.encoding import IMAGE_FORMATS, FrameEncoder, decode


@st.composite
def frames(draw):
    """Flat, striped and noisy pictures, with few and with many colors, rows equal to the one above among them."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    palette = rng.integers(0, 256, (draw(st.sampled_from([1, 2, 16, 256, 257, 2000])), 3), dtype=np.uint8)
    frame = palette[rng.integers(0, len(palette), (height, width))]
    if draw(st.booleans()):
        first = draw(st.integers(0, height - 1))
        frame[first:] = frame[first]
    return frame


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return np.asarray(image.convert("RGB"))


def by_opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


@settings(max_examples=150, deadline=None)
@given(frame=frames(), image_format=st.sampled_from(IMAGE_FORMATS))
def test_lossless_for_any_reader(frame, image_format):
    data = FrameEncoder(image_format)(frame)
    for read in (by_pillow, by_opencv, decode):
        np.testing.assert_array_equal(read(data), frame)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_reference_frames_come_back_bit_for_bit(fixtures, image_format):
    recorded = np.load(fixtures / "two_room.npz")["frames"][:5]
    encode = FrameEncoder(image_format)
    for frame in recorded:
        np.testing.assert_array_equal(decode(encode(frame)), frame)


def test_the_bytes_depend_on_the_frame_alone(fixtures):
    recorded = np.load(fixtures / "two_room.npz")["frames"][:6]
    encode = FrameEncoder("png")
    forwards, backwards = [encode(frame) for frame in recorded], [encode(frame) for frame in recorded[::-1]]
    assert forwards == backwards[::-1]


def test_png_files_are_valid_and_small(fixtures):
    recorded = np.load(fixtures / "two_room.npz")["frames"]
    encode = FrameEncoder("png")
    for frame in recorded:
        data = encode(frame)
        Image.open(io.BytesIO(data)).verify()  # checks every checksum
        assert len(data) < 6000  # 150,528 raw; Pillow's own PNG of the first takes 4,900
    # A palette's indices would be taken for gray by readers that do not convert.
    few = encode(np.zeros((8, 8, 3), np.uint8))
    assert Image.open(io.BytesIO(few)).mode == "RGB"


def test_pillow_reads_where_opencv_is_missing(monkeypatch, fixtures):
    frame = np.load(fixtures / "two_room.npz")["frames"][2]
    monkeypatch.setattr(encoding, "cv2", None)
    for image_format in IMAGE_FORMATS:
        np.testing.assert_array_equal(decode(FrameEncoder(image_format)(frame)), frame)


def test_an_opencv_before_4_11_reads_the_same(monkeypatch):
    frame = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB")  # which it does not have
    for image_format in IMAGE_FORMATS:
        np.testing.assert_array_equal(decode(FrameEncoder(image_format)(frame)), frame)
    with pytest.raises(ValueError):
        decode(b"no picture")


def test_without_webp_png_is_written(monkeypatch):
    monkeypatch.setattr(encoding.features, "check", lambda name: False)
    assert FrameEncoder("webp0")(np.zeros((8, 8, 3), np.uint8)).startswith(encoding.PNG_SIGNATURE)


def test_other_kinds_of_images_are_read_as_rgb():
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue()), np.repeat(gray[..., None], 3, axis=2))
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(file, "JPEG")
    assert np.abs(decode(file.getvalue()).astype(int) - 100).max() <= 2


def test_bad_input_is_refused():
    encode = FrameEncoder("png")
    for frame in (
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="frame is"):
            encode(frame)
    with pytest.raises(ValueError, match="'bmp'.*png, webp0"):
        FrameEncoder("bmp")
    with pytest.raises(ValueError, match="3 bytes cannot be decoded"):
        decode(b"abc")
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(FrameEncoder("webp0")(np.zeros((64, 64, 3), np.uint8))[:20])
