"""Runs that are logged where people look at them, without a network: where wandb and trackio are installed."""

import time

import pytest


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "variables", "files"),
    [
        ("wandb", {"WANDB_MODE": "offline"}, "run/**/*.wandb"),
        ("trackio", {"TRACKIO_DIR": "{folder}/trackio", "TRACKIO_DISABLE_TELEMETRY": "1"}, "trackio/**/*.db*"),
    ],
)
def test_a_run_is_logged_without_a_network(name, variables, files, run_training, tmp_path, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(folder=tmp_path))
    pytest.importorskip(name)  # it reads them when it is imported
    run_training(tmp_path / "run", tracker=name, max_steps=2, eval_every=2, save_every=2)
    words = (b"prediction_loss", b"eval/prediction_loss", b"learning_rate", b"sigreg_weight")
    content, end = b"", time.monotonic() + 60
    while not all(word in content for word in words) and time.monotonic() < end:  # wandb writes from another process
        time.sleep(0.5)
        content = b"".join(path.read_bytes() for path in tmp_path.glob(files) if path.is_file())
    assert [word for word in words if word not in content] == [], sorted(tmp_path.rglob("*"))
