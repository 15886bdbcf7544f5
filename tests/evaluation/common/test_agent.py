import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.evaluation.common.inputs import check_trained_on
from lewm_hf.evaluation.common.provenance import model_fingerprint


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_gives_the_model_that_was_saved(checkpoint, tiny_model):
    agent = load_agent(checkpoint, device="cpu")
    assert not agent.model.training
    assert agent.source == str(checkpoint)
    assert agent.processor.image_size == 28
    assert agent.facts()["fingerprint"] == model_fingerprint(tiny_model)
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, agent.model.state_dict()[name])


def test_fingerprints_tell_weights_apart(tiny_model):
    before = model_fingerprint(tiny_model)
    with torch.no_grad():
        tiny_model.projector.batch_norm.running_mean[0] += 1e-6
    assert model_fingerprint(tiny_model) != before


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_weights_that_do_not_fit_are_refused(checkpoint, change):
    path = checkpoint / "model.safetensors"
    weights = load_file(path)
    if change == "missing":
        del weights["projector.fc2.weight"]
    elif change == "unexpected":
        weights["decoder.weight"] = torch.zeros(3)
    else:
        weights["projector.fc2.weight"] = torch.zeros(3, 3)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises((ValueError, RuntimeError), match="projector.fc2.weight|decoder.weight"):
        load_agent(checkpoint, device="cpu")


def test_a_place_without_a_checkpoint_is_refused_in_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere", "nobody/nothing"):
        with pytest.raises(FileNotFoundError) as error:
            load_agent(place)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"env_kwargs": null}', '{"env_kwargs": [1]}'])
def test_damaged_facts_of_the_training_are_refused_in_one_line(checkpoint, content):
    (checkpoint / "training.json").write_text(content)
    with pytest.raises(ValueError, match=r"training\.json") as error:
        load_agent(checkpoint, device="cpu")
    assert "\n" not in str(error.value)


def test_a_model_of_another_environment_is_refused(checkpoint):
    (checkpoint / "training.json").write_text(json.dumps({"env_id": "lewm/PushT-v0"}))
    agent = load_agent(checkpoint, device="cpu")
    with pytest.raises(ValueError, match="trained on lewm/PushT-v0, not on lewm/TwoRoom-v0"):
        check_trained_on(agent, "lewm/TwoRoom-v0")
    check_trained_on(agent, "push_t")
