"""A Hub on this machine, and checkpoints and episodes to put there."""

import os
import shutil

import datasets
import huggingface_hub
import pytest
import transformers
from huggingface_hub import constants, hf_api

from lewm_hf import LeWMImageProcessor

from .fake_hub import FakeHub

# Large files would ask for another protocol's tokens.
os.environ["HF_HUB_DISABLE_XET"] = "1"


@pytest.fixture
def hub():
    with FakeHub() as server:
        yield server


@pytest.fixture
def online(hub, monkeypatch, tmp_path):
    """The libraries of this process talk to the fake Hub, with a valid token and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):  # a busy machine is no broken one
        monkeypatch.setattr(constants, name, 60)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # made at its first use
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_valid")
    huggingface_hub.close_session()
    yield hub
    huggingface_hub.close_session()


@pytest.fixture
def model_folder(tmp_path, tiny_model):
    """A checkpoint with a card, and with what a training run leaves beside it."""
    from huggingface_hub import EvalResult, ModelCardData

    folder = tmp_path / "checkpoint"
    tiny_model.save_pretrained(folder)
    LeWMImageProcessor(image_size=28).save_pretrained(folder)
    result = EvalResult("robotics", "org/episodes", "TwoRoom", "success_rate", 0.5)
    data = ModelCardData(
        license="apache-2.0", library_name="lewm-hf", pipeline_tag="robotics", datasets=["org/episodes"],
        model_name="tiny", eval_results=[result],
    )  # fmt: skip
    (folder / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n# tiny\n")
    (folder / "training.json").write_text("{}")
    for name in ("metrics.jsonl", "logs/events.out.tfevents.1", "state/optimizer.bin", "state/random_states_0.pkl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('{"loss": 1}')
    (folder / ".hidden").write_text("x")
    return folder


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """Four short episodes of TwoRoom."""
    from lewm_hf.data.collect import collect

    folder = tmp_path_factory.mktemp("collected") / "two-room"
    return collect(
        "two_room", folder, 4, image_size=28, test_fraction=0.5, max_steps=12, stop_at_success=False, workers=1
    )


@pytest.fixture
def episode_folder(tmp_path, collected):
    """A copy of them, and what an interrupted write left."""
    folder = tmp_path / "episodes"
    shutil.copytree(collected, folder)
    (folder / "data" / ".train.tmp").write_text("half a file")
    return folder
