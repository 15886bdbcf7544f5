"""Exported graphs, run from their files by other programs, against the model."""

import json
import logging
import sys
import warnings

import numpy as np
import pytest
import torch

from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.cli import main
from lewm_hf.hub.export import graphs as module
from lewm_hf.hub.export.graphs import export


def run_onnx(path, **inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == set(inputs)
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


def run_torchscript(path, **inputs):
    return torch.jit.load(path)(*inputs.values()).numpy()


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_the_command_writes_graphs_that_agree_on_every_batch_and_time(model_folder, tmp_path, format, capfd, caplog):
    if format == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    out = tmp_path / "graphs"
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.WARNING):
        warnings.simplefilter("default")
        assert main(["export", str(model_folder), "--out", str(out), "--format", format]) == 0
    # It names its files, and no library says anything that would reach a terminal.
    said = capfd.readouterr()
    assert said.out.startswith(f"\nwrote {out}: encoder.") and said.out.count("\n") == 2 and not said.err
    hidden = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
    assert not [str(one.message) for one in warned if not issubclass(one.category, hidden)]
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    facts = json.loads((out / "export.json").read_text())
    run = run_onnx if format == "onnx" else run_torchscript
    model = LeWMModel.from_pretrained(model_folder).eval()
    config = model.config
    torch.manual_seed(1)
    for batch, time in [(1, 1), (2, 3), (5, 2), (4, 1)]:
        pixels = torch.randn(batch, time, 3, 28, 28)
        actions = torch.randn(batch, time, config.action_block_size)
        with torch.no_grad():
            embeddings = model.encode(pixels)
            predicted = model.predict(embeddings, actions)
        found = run(out / facts["encoder"]["file"], pixel_values=pixels)
        np.testing.assert_allclose(found, embeddings.numpy(), atol=1e-4)
        found = run(out / facts["predictor"]["file"], embeddings=embeddings, actions=actions)
        np.testing.assert_allclose(found, predicted.numpy(), atol=1e-4)
    assert facts["actions"]["mean"] == config.action_mean and facts["actions"]["std"] == config.action_std
    assert facts["pixels"]["image_size"] == 28 and facts["predictor"]["max_time"] == config.history_size
    assert facts["pixels"]["fit"] is facts["pixels"]["cameras"] is facts["actions"]["choices"] is None
    assert (facts["actions"]["low"], facts["actions"]["high"]) == (config.action_low, config.action_high)
    assert facts["encoder"]["inputs"] == {"pixel_values": ["batch", "time", 3, 28, 28]}


@pytest.mark.long
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_predictor_of_one_frame(tiny_config, tmp_path, format):
    if format == "onnx":
        pytest.importorskip("onnxscript")
    tiny_config.history_size = 1
    model = LeWMModel(tiny_config).eval()
    model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    out = export(tmp_path / "model", tmp_path / "graphs", format)
    pixels = torch.randn(3, 4, 3, 28, 28)
    found = (run_onnx if format == "onnx" else run_torchscript)(next(out.glob("encoder.*")), pixel_values=pixels)
    np.testing.assert_allclose(found, model.encode(pixels).detach().numpy(), atol=1e-4)


def test_what_a_program_has_to_do_with_pictures_and_actions_is_written_beside(tiny_config, tmp_path):
    """Recordings of two cameras, cut square; actions are one of two buttons."""
    tiny_config.action_mean, tiny_config.action_std, tiny_config.action_choices = [0.5, 0.5], [0.5, 0.5], [2]
    LeWMModel(tiny_config).save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28, fit="crop", cameras=["top", "wrist"]).save_pretrained(tmp_path / "model")
    facts = json.loads((export(tmp_path / "model", tmp_path / "graphs", "torchscript") / "export.json").read_text())
    assert (facts["pixels"]["fit"], facts["pixels"]["cameras"]) == ("crop", ["top", "wrist"])
    assert facts["actions"]["choices"] == [2]


def test_a_graph_that_disagrees_leaves_nothing_behind(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_torchscript", lambda path: lambda pixels: np.zeros((*pixels.shape[:2], 16)))
    with pytest.raises(ValueError, match="encoder differs from PyTorch by"):
        export(model_folder, tmp_path / "graphs", "torchscript")
    assert sorted(path.name for path in tmp_path.iterdir()) == [model_folder.name]


def test_bad_input_is_refused_before_any_work(model_folder, tmp_path):
    with pytest.raises(ValueError, match="format='tflite' is unknown"):
        export(model_folder, tmp_path / "graphs", "tflite")
    with pytest.raises(ValueError, match="exists already"):
        export(model_folder, model_folder, "torchscript")
    with pytest.raises(FileNotFoundError):
        export(tmp_path / "nothing", tmp_path / "graphs", "torchscript")
    assert not (tmp_path / "graphs").exists()


def test_missing_libraries_name_the_extra(model_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"lewm-hf\[export\]"):
        export(model_folder, tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists()
