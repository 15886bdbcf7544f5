import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig

from lewm_hf import LeWMConfig
from lewm_hf.action_blocks import block_bounds, to_blocks


def test_round_trip_keeps_every_field_and_float64_statistics(tmp_path):
    config = LeWMConfig(action_mean=[1 / 3, -2e-17], action_std=[0.1 + 0.2, 1e300], history_size=2)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is LeWMConfig
    assert loaded.action_mean == [1 / 3, -2e-17] and loaded.action_std == [0.1 + 0.2, 1e300]
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.action_block_size == 10


def test_whole_numbers_are_numbers(tmp_path):
    """Written by hand, and by programs that write 1 for 1.0."""
    whole = {"action_mean": [0, 1], "action_std": [1, 2], "action_low": [-1, -1], "action_high": [1, 1]}
    LeWMConfig(**whole).save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    real = LeWMConfig(**{name: [float(value) for value in values] for name, values in whole.items()})
    raw = torch.tensor([[0.5, -0.25]], dtype=torch.float64).repeat(real.frameskip, 1)
    torch.testing.assert_close(to_blocks(raw, loaded), to_blocks(raw, real), rtol=0, atol=0)
    for mine, expected in zip(block_bounds(loaded), block_bounds(real), strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": "64"}, "image_size"),
        ({"image_size": 65}, "patch_size=14"),
        ({"inverse_weight": -0.1}, "inverse_weight=-0.1"),
        ({"actor_weight": float("nan")}, "actor_weight=nan"),
        ({"actor_inputs": "pixels"}, "'embeddings' or 'features'"),
        ({"rollout_weight": 0.2}, "rollout_blocks"),
        ({"encoder_heads": 5}, "encoder_heads=5"),
        ({"history_size": 0}, "history_size=0"),
        ({"action_mean": [0.0, 0.0]}, "go together"),
        ({"action_mean": [0.0], "action_std": [1.0]}, "action_dim=2"),
        ({"action_mean": [0.0, float("nan")], "action_std": [1.0, 1.0]}, "finite"),
        ({"action_mean": [0.0, 0.0], "action_std": [1.0, -1.0]}, "negative"),
        ({"sigreg_knots": 1}, "sigreg_knots=1"),
        ({"actions_per_second": 0}, "actions_per_second=0 must be a positive number"),
    ],
)
def test_contradictions_are_refused_naming_the_value(fields, message):
    with pytest.raises((StrictDataclassClassValidationError, StrictDataclassFieldValidationError), match=message):
        LeWMConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder_layers": 10**9}, "encoder_layers=1000000000"),
        ({"predictor_layers": 5000}, "5,000 layers"),
        ({"history_size": 10**12}, "history_size=1000000000000"),
        ({"image_size": 20_000, "encoder": "resnet18"}, "image_size=20,000"),
        ({"predictor_mlp_size": 10**6, "predictor_hidden_size": 10**6}, "parameters"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"frameskip": 10**6, "action_dim": 10**6, "action_bottleneck_size": 10**4}, "parameters"),
    ],
)
def test_what_no_machine_could_build_is_refused_at_once(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        LeWMConfig(**fields)


def test_the_estimated_extent_is_about_that_of_the_model():
    import torch

    from lewm_hf import LeWMModel

    for fields in ({}, {"action_dim": 5, "predictor_layers": 12, "encoder_hidden_size": 384, "encoder_mlp_size": 1536}):
        config = LeWMConfig(**fields)
        with torch.device("meta"):
            count = LeWMModel(config).num_parameters()
        assert config._main_parameters() == pytest.approx(count, rel=0.05)


def test_notes_of_ones_own_are_kept_and_slips_of_the_pen_refused(tmp_path, caplog):
    config = LeWMConfig(my_note="the third try")
    config.another = [1, 2]
    config.save_pretrained(tmp_path)
    loaded = LeWMConfig.from_pretrained(tmp_path)
    assert loaded.my_note == "the third try" and loaded.another == [1, 2]
    assert "my_note" in caplog.text and "another" in caplog.text
    with pytest.raises(StrictDataclassClassValidationError, match="sigreg_wieght.*sigreg_weight"):
        LeWMConfig(sigreg_wieght=0.1)
    loaded.frame_skip = 2
    with pytest.raises(StrictDataclassClassValidationError, match="frame_skip.*frameskip"):
        loaded.save_pretrained(tmp_path)


def test_names_that_other_libraries_ask_for_are_aliases():
    config = LeWMConfig(embed_dim=64, encoder_layers=3)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (64, 3, 3)
    assert "hidden_size" not in config.to_dict()
