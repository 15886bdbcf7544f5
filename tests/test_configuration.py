import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig

from lewm_hf import LeWMConfig


def test_round_trip_keeps_every_field_and_float64_statistics(tmp_path):
    config = LeWMConfig(action_mean=[1 / 3, -2e-17], action_std=[0.1 + 0.2, 1e300], history_size=2)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is LeWMConfig
    assert loaded.action_mean == [1 / 3, -2e-17] and loaded.action_std == [0.1 + 0.2, 1e300]
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.action_block_size == 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": "64"}, "image_size"),
        ({"image_size": 65}, "patch_size=14"),
        ({"encoder": "vgg"}, "timm/<name>"),
        ({"encoder_heads": 5}, "encoder_heads=5"),
        ({"history_size": 0}, "history_size=0"),
        ({"action_mean": [0.0, 0.0]}, "go together"),
        ({"action_mean": [0.0], "action_std": [1.0]}, "action_dim=2"),
        ({"action_mean": [0.0, float("nan")], "action_std": [1.0, 1.0]}, "finite"),
        ({"action_mean": [0.0, 0.0], "action_std": [1.0, -1.0]}, "negative"),
        ({"sigreg_knots": 1}, "sigreg_knots=1"),
    ],
)
def test_contradictions_are_refused_naming_the_value(fields, message):
    with pytest.raises((StrictDataclassClassValidationError, StrictDataclassFieldValidationError), match=message):
        LeWMConfig(**fields)
