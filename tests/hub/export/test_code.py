"""Checkpoints that bring their code, loaded where the package is not installed; from a Hub, and then without one."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.data.episodes import load_episodes
from lewm_hf.flat_code import flat_sources
from lewm_hf.hub.export.code import export_code
from lewm_hf.hub.push import push

SCRIPT = Path(__file__).with_name("without_package.py")


def elsewhere(tmp_path, *arguments, **environment):
    """Runs the script in a process that cannot import the package: `-S` leaves the editable install's hook out."""
    out = tmp_path / f"numbers-{len(list(tmp_path.glob('numbers-*')))}.npz"
    variables = os.environ | {
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "60",
        "HF_HUB_ETAG_TIMEOUT": "60",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-S", str(SCRIPT), str(out), *arguments],
        cwd=tmp_path, env=variables | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert out.exists(), run.stderr[-3000:]
    return np.load(out)


def planned_here(folder):
    """The same numbers with the installed package."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    planner = LeWMPlanner.from_pretrained(folder, samples=8, iterations=2, elites=4, horizon=2)
    pixels = planner.image_processor(list(frames))["pixel_values"]
    with torch.no_grad():
        embeddings = planner.model.encode(pixels[None]).numpy()
    return embeddings, planner({"observation": frames[0], "goal": frames[1]})


def agree(numbers, source, folder):
    embeddings, plan = planned_here(folder)
    np.testing.assert_allclose(numbers[f"{source}_embeddings"], embeddings, rtol=0, atol=1e-6)
    np.testing.assert_allclose(numbers[f"{source}_actions"], plan["actions"], rtol=0, atol=1e-5)
    assert float(numbers[f"{source}_cost"]) == pytest.approx(plan["cost"], rel=1e-5)
    for again in numbers[f"{source}_again"]:
        np.testing.assert_array_equal(again, numbers[f"{source}_actions"])
    assert str(numbers[f"{source}_home"]).startswith("transformers_modules.")
    assert int(numbers[f"{source}_refused"]) == 2  # code runs only with leave


def test_up_to_the_hub_down_elsewhere_and_then_offline(tmp_path, online, model_folder, episode_folder):
    """Uploaded, loaded without the package from the folder and from a pinned revision, planned, and again offline."""
    written = export_code(model_folder)
    assert export_code(model_folder) == written  # again changes nothing
    push("org/lewm-tiny", model=model_folder, dataset=episode_folder)
    assert set(written) < online.files("model", "org/lewm-tiny").keys()
    pinned = f"org/lewm-tiny@{online.repos['model', 'org/lewm-tiny'].branches['main']}"
    model = LeWMModel.from_pretrained(model_folder)
    with torch.no_grad():
        model.encoder.cls_token.add_(1)
    model.push_to_hub("org/lewm-tiny")  # what the pinned revision must not see

    data = "org/lewm-tiny-episodes"
    settings = {"HF_ENDPOINT": online.url, "HF_TOKEN": "hf_valid"}
    numbers = elsewhere(tmp_path, data, str(model_folder), pinned, HF_HUB_OFFLINE="0", **settings)
    agree(numbers, 0, model_folder)
    agree(numbers, 1, model_folder)
    asked = len(online.requests)
    offline = elsewhere(tmp_path, data, pinned, HF_HUB_OFFLINE="1", **settings)
    assert len(online.requests) == asked
    agree(offline, 0, model_folder)
    for split in ("train", "test"):
        expected = load_episodes(episode_folder, split, cache_dir=tmp_path / "datasets").actions
        np.testing.assert_array_equal(numbers[f"data_{split}"].astype(np.float32), expected)
        np.testing.assert_array_equal(offline[f"data_{split}"].astype(np.float32), expected)


def test_save_pretrained_itself_can_export_the_modeling_code(tmp_path, tiny_model, monkeypatch):
    """The usual `register_for_auto_class` works, because these modules are flat."""
    for cls in (LeWMConfig, LeWMModel, LeWMImageProcessor):
        monkeypatch.setattr(cls, "_auto_class", None, raising=False)
    LeWMConfig.register_for_auto_class()
    LeWMModel.register_for_auto_class("AutoModel")
    LeWMImageProcessor.register_for_auto_class("AutoImageProcessor")
    tiny_model.save_pretrained(tmp_path)
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.glob("*.py")}
    assert names == {
        "configuration_checks.py", "configuration_lewm.py", "modeling_lewm.py", "attention_lewm.py",
        "predictor_lewm.py", "sigreg.py", "heads_lewm.py", "rollout_lewm.py", "threads.py", "encoder_resnet.py",
        "fixed_weights_lewm.py", "plain_modules.py", "recordings.py", "spatial_softmax.py",
        "encoder_timm.py", "encoder_vit.py", "encoders.py", "encoder_conv.py", "encoder_convolutions.py",
        "encoder_spatial_softmax.py", "image_processing_lewm.py", "pictures.py", "pretrained_lewm.py",
        "plain_numbers.py", "proprioception_lewm.py",
    }  # fmt: skip
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert auto_map == {"AutoConfig": "configuration_lewm.LeWMConfig", "AutoModel": "modeling_lewm.LeWMModel"}


def test_flattened_sources_import_each_other_flatly():
    sources = flat_sources([("pipeline_lewm",)])
    for name, source in sources.items():
        code = compile(source, f"{name}.py", "exec", dont_inherit=True)
        assert code and "lewm_hf." not in "".join(line for line in source.splitlines() if "import" in line)
        for line in source.splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("."):
                assert words[1].count(".") == 1 and words[1][1:] in sources, line


def test_folders_that_are_no_checkpoint_are_refused_and_left_alone(tmp_path, tiny_model):
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        export_code(tmp_path)
    tiny_model.save_pretrained(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="has no preprocessor_config.json"):
        export_code(tmp_path)
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="model_type='vit'"):
        export_code(tmp_path)
    assert sorted(tmp_path.iterdir()) == [*before[:1], *before[1:], tmp_path / "preprocessor_config.json"]


def test_where_the_package_is_installed_it_serves_an_exported_folder(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path)
    export_code(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is LeWMConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is LeWMModel
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is LeWMImageProcessor


def test_code_that_a_checkpoint_brought_along_goes_along_when_it_is_saved(tmp_path, tiny_model):
    """Its configs name it: what is saved without it could not be loaded without the package."""
    first, planned, alone = (tmp_path / name for name in ("first", "planned", "alone"))
    tiny_model.save_pretrained(first)
    LeWMImageProcessor(image_size=28).save_pretrained(first)
    assert not list(first.glob("*.py"))
    code = {name: (first / name).read_text() for name in export_code(first)}

    LeWMPlanner.from_pretrained(first).save_pretrained(planned)
    LeWMModel.from_pretrained(first).save_pretrained(str(alone))
    for folder in (planned, alone):
        assert {path.name: path.read_text() for path in folder.glob("*.py")} == {
            name: text for name, text in code.items() if name.endswith(".py")
        }
    planner = pipeline(model=str(planned), trust_remote_code=True, samples=4, iterations=1, elites=2, horizon=2)
    assert type(planner).__module__.startswith("transformers_modules.")


def test_a_model_of_somebody_elses_is_saved_without_the_code_of_this_package(tmp_path, tiny_config):
    class Own(LeWMModel):
        pass

    tiny_config.auto_map = {"AutoModel": "own.Own"}
    Own(tiny_config).save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
