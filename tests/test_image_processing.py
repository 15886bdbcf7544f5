import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from lewm_hf import LeWMImageProcessor

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def expected(frame):
    return ((frame / 255 - MEAN) / STD).transpose(2, 0, 1)


def test_scales_and_normalizes_every_kind_of_picture_alike(frame):
    processor = LeWMImageProcessor(image_size=32)
    kinds = {
        "pil": Image.fromarray(frame),
        "numpy": frame,
        "numpy channels first": frame.transpose(2, 0, 1),
        "torch": torch.tensor(frame),
        "torch float": torch.tensor(frame).permute(2, 0, 1) / 255,
        "int64": frame.astype(np.int64),
    }
    for name, picture in kinds.items():
        pixels = processor(picture)["pixel_values"]
        assert pixels.shape == (1, 3, 32, 32) and pixels.dtype == torch.float32, name
        np.testing.assert_allclose(pixels[0], expected(frame), atol=2e-6, err_msg=name)


def test_batches_and_videos_keep_their_order():
    """Every frame of a nested list or an array is where it was, scaled by itself."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    processor = LeWMImageProcessor(image_size=32)
    wanted = np.stack([[expected(frame) for frame in video] for video in frames])
    np.testing.assert_allclose(processor(list(frames[0])).pixel_values, wanted[0], atol=2e-6)
    nested = [[Image.fromarray(frame) for frame in video] for video in frames]
    np.testing.assert_allclose(processor(nested).pixel_values, wanted, atol=2e-6)
    np.testing.assert_allclose(processor(frames).pixel_values, wanted, atol=2e-6)


def test_resizes_after_normalizing_like_pil(frame):
    smooth = np.asarray(Image.fromarray(frame).resize((96, 96), Image.Resampling.BICUBIC))
    pixels = LeWMImageProcessor(image_size=48)(smooth)["pixel_values"][0]
    pil = np.asarray(Image.fromarray(smooth).resize((48, 48), Image.Resampling.BILINEAR))
    gray_levels = np.abs((pixels.numpy() - expected(pil)) * STD[:, None, None] * 255)
    assert gray_levels.max() <= 1.01 and gray_levels.mean() < 0.4


def test_normalize_does_not_touch_its_input(frame):
    frames = torch.tensor(frame)[None]
    before = frames.clone()
    LeWMImageProcessor(image_size=32).normalize(frames)
    assert torch.equal(frames, before)


def test_is_saved_with_a_checkpoint_and_found_by_auto(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    LeWMImageProcessor(image_size=28, image_mean=(0.1, 0.2, 0.3)).save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(loaded) is LeWMImageProcessor
    assert loaded.image_size == 28 and loaded.image_mean == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((32, 32), np.uint8), "no channels"),
        (np.zeros((32, 32, 4), np.uint8), "3 channels"),
        (np.full((32, 32, 3), 200.0), r"\[0, 1\]"),
        (np.full((32, 32, 3), np.nan), "NaN"),
        (np.full((32, 32, 3), 300), r"\[0, 255\]"),
        ([], "empty list"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)], "different shapes"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3))], "floats .* and whole numbers to 255: give one kind"),
        ("missing.png", "type str"),
    ],
)
def test_bad_pictures_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        LeWMImageProcessor(image_size=32)(picture)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": "64"}, "image_size='64' must be a whole number"),
        ({"image_size": 0}, "image_size=0 must be a whole number"),
        ({"image_size": {"height": 64, "width": 64}}, "image_size={.*} must be a whole number"),
        ({"image_mean": 0.5}, "image_mean=0.5 must be three finite numbers"),
        ({"image_mean": [0.5]}, r"image_mean=\[0.5\] must be three finite numbers"),
        ({"image_std": [0.2, 0.2, float("nan")]}, "image_std=.* must be three finite numbers"),
        ({"image_std": [0.2, 0.0, 0.2]}, r"image_std=\[0.2, 0.0, 0.2\] must be positive"),
    ],
)
def test_numbers_that_no_picture_can_be_made_with_are_refused(fields, message, tmp_path):
    """Also where somebody wrote them into the file."""
    with pytest.raises(ValueError, match=message):
        LeWMImageProcessor(**fields)
    LeWMImageProcessor(image_size=np.int64(28), image_std=np.float32([0.2, 0.2, 0.2])).save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(ValueError, match=message):
        AutoImageProcessor.from_pretrained(tmp_path)
