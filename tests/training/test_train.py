"""The training loop, run for real: a tiny model on a few TwoRoom episodes."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from forks import Fork
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, get_cosine_schedule_with_warmup

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.report.run import write_report
from lewm_hf.training.batches import WindowBatches
from lewm_hf.training.schedule import learning_rate

SCRIPT = Path(__file__).parents[2] / "training" / "train.py"
MONITORS = {
    "loss", "prediction_loss", "sigreg_loss", "embedding_std_min", "embedding_std_mean", "embedding_std_max",
    "effective_rank", "prediction_over_copy_last", "learning_rate", "windows_per_second", "waiting_for_data",
    "gradient_norm", "epoch", "straightness",
}  # fmt: skip
# What depends on the clock and on where a run lives.
TIMINGS = {"windows_per_second", "waiting_for_data"}


def metrics(folder) -> list[dict]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMINGS} for record in records]


def training_metrics(folder) -> list[dict]:
    return [record for record in metrics(folder) if "loss" in record]


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_run(one, two):
    for name in ("last", "best", "state"):
        ours, theirs = weights(one / name), weights(two / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert metrics(one) == metrics(two)
    optimizers = [torch.load(run / "state" / "optimizer.bin", weights_only=True)["state"] for run in (one, two)]
    for ours, theirs in zip(*(state.values() for state in optimizers), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def finished_run(finished, run_training):
    """An uninterrupted run, evaluated at steps 5, 10 and 12."""
    if not finished.exists():
        run_training(finished, eval_every=5, save_every=4)
    return finished


def test_records_hold_every_monitor(finished_run):
    records = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    training = [record for record in records if "loss" in record]
    assert [record["step"] for record in training] == list(range(1, 13))
    assert all(record.keys() == MONITORS | {"step"} for record in training)
    assert all(np.isfinite(value) for record in training for value in record.values())
    assert [record["step"] for record in records if "eval/prediction_loss" in record] == [5, 10, 12]
    total = training[-1]["prediction_loss"] + 0.09 * training[-1]["sigreg_loss"]
    assert training[-1]["loss"] == pytest.approx(total, rel=1e-5)


def test_weights_equal_a_plain_loop_of_pytorch(run_training, episodes_dir, tmp_path):
    """The same arithmetic, spelled out without Accelerate, checkpoints, monitors or loader."""
    run_training(tmp_path / "run", max_steps=4, predictor_dropout=0.0)
    config = LeWMConfig.from_pretrained(tmp_path / "run" / "last")
    torch.manual_seed(3072)
    model = LeWMModel(config).train()
    windows = WindowDataset(load_episodes(str(episodes_dir)), config)
    normalize = LeWMImageProcessor(image_size=28).normalize
    # Fused, since Adam's first steps turn rounding of tiny gradients into changes of the size of the learning rate.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, 4)
    for step, indices in enumerate(WindowBatches(len(windows), 20, 3072, 0, 4)):
        items = [windows[index] for index in indices]
        pixels = normalize(torch.stack([item["pixel_values"] for item in items]))
        actions = torch.stack([item["actions"] for item in items])
        optimizer.zero_grad()
        model(pixels, actions, model.sigreg.directions(3072, step)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    trained = weights(tmp_path / "run" / "state")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_checkpoints_are_pretrained_folders_with_measured_statistics(finished_run, episodes_dir):
    for name in ("last", "best"):
        model = AutoModel.from_pretrained(finished_run / name)
        processor = AutoImageProcessor.from_pretrained(finished_run / name)
        assert isinstance(model, LeWMModel) and processor.image_size == 28
        actions = np.concatenate([load_episodes(str(episodes_dir), split).actions for split in ("train", "test")])
        actions = actions[~np.isnan(actions).any(1)].astype(np.float64)
        np.testing.assert_allclose(model.config.action_mean, actions.mean(0))
        np.testing.assert_allclose(model.config.action_std, actions.std(0))
        facts = json.loads((finished_run / name / "training.json").read_text())
        assert facts["env_id"] == "lewm/TwoRoom-v0" and facts["recipe"]["seed"] == 3072
        # As the rows' own times tell it.
        first, second = pq.read_table(next(episodes_dir.glob("data/*/*.parquet")))["timestamp"].to_pylist()[:2]
        assert model.config.actions_per_second == pytest.approx(1 / (second - first), rel=1e-5)
    last, state = weights(finished_run / "last"), weights(finished_run / "state")
    differing = {name for name in last if not torch.equal(last[name], state[name])}
    assert differing == {n for n in last if n.endswith((".running_mean", ".running_var"))}


def test_best_is_chosen_by_success_and_then_by_held_out_loss(run_training, tmp_path):
    success = {3: 0.5, 6: 0.75, 9: 0.75, 12: 0.25}
    seen = []

    def evaluate(model, step):
        assert not model.training
        seen.append(step)
        return {"success": success[step]}

    summary = run_training(tmp_path / "run", eval_every=3, evaluate=evaluate)
    assert seen == [3, 6, 9, 12]
    loss = {r["step"]: r["eval/prediction_loss"] for r in metrics(tmp_path / "run") if "eval/success" in r}
    best = min((6, 9), key=loss.get)
    assert summary["best"]["step"] == best
    assert json.loads((tmp_path / "run" / "best" / "training.json").read_text())["steps"] == best
    assert json.loads((tmp_path / "run" / "last" / "training.json").read_text())["steps"] == 12


def test_evaluating_more_often_does_not_change_the_run(run_training, finished_run, tmp_path):
    def evaluate(model, step):
        torch.rand(7)
        np.random.rand(7)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return {}

    run_training(tmp_path / "run", eval_every=1, recalibration_batches=1, evaluate=evaluate)
    assert training_metrics(tmp_path / "run") == training_metrics(finished_run)
    ours, theirs = weights(tmp_path / "run" / "state"), weights(finished_run / "state")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("moment", ["in training", "in an evaluation"])
def test_a_killed_run_continues_to_the_bit(run_training, tiny_arguments, finished_run, tmp_path, moment):
    """SIGKILL in the middle of an epoch, steps after the last saved state; the data order, dropout and Adam go on."""
    folder = tmp_path / "run"
    if moment == "in training":
        fork = Fork(["python", SCRIPT, *tiny_arguments(folder, eval_every=5, save_every=4)])
        deadline = time.monotonic() + 240
        while not (folder / "metrics.jsonl").exists() or len(metrics(folder)) < 10:  # step 9, state of step 8
            assert fork.process.is_alive() and time.monotonic() < deadline, fork.said()[1][-3000:]
            time.sleep(0.002)
        fork.process.kill()
        assert fork.finish().returncode == -signal.SIGKILL
    else:

        def dying(model, step):
            if step == 10:
                raise RuntimeError("as good as dead")
            return {}

        with pytest.raises(RuntimeError, match="as good as dead"):
            run_training(folder, eval_every=5, save_every=4, evaluate=dying)
    saved = json.loads((folder / "state" / "progress.json").read_text())
    assert 0 < saved["step"] < 12
    run_training(folder, "--resume", eval_every=5, save_every=4)
    assert_same_run(folder, finished_run)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_saves_first_and_continues_to_the_bit(run_training, finished_run, tmp_path, signum, status):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def evaluate(model, step):
        if step == 5:
            signal.raise_signal(signum)
        return {}

    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        run_training(folder, eval_every=5, save_every=100, evaluate=evaluate)
    assert stop.value.code == status
    assert json.loads((folder / "state" / "progress.json").read_text())["step"] == 6
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    other = {"frame_cache": "ram"} if signum == signal.SIGINT else {"num_workers": 1, "log_every": 1}
    run_training(folder, "--resume", eval_every=5, save_every=100, **other)
    assert_same_run(folder, finished_run)


def test_accumulation_resumes_too_and_warns(run_training, tmp_path, caplog):
    options = {"gradient_accumulation_steps": 3, "max_steps": 4, "batch_size": 8, "eval_every": 2}
    run_training(tmp_path / "whole", **options)
    assert "SIGReg compares each batch of 8 windows" in caplog.text
    assert "not the same as batch_size=24" in caplog.text

    def dying(model, step):
        raise RuntimeError("as good as dead")

    with pytest.raises(RuntimeError, match="as good as dead"):
        run_training(tmp_path / "cut", evaluate=dying, **options)
    run_training(tmp_path / "cut", "--resume", **options)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_the_schedule_may_be_longer_than_the_run(run_training, tmp_path):
    folder = tmp_path / "run"
    run_training(folder, max_steps=None, schedule_epochs=4, stop_epoch=1 / 3, warmup_fraction=0.06)
    rates = [record["learning_rate"] for record in training_metrics(folder)]
    assert rates == [learning_rate(step, 4 * 9, 0.06, 1e-2) for step in range(3)]
    with pytest.raises(ValueError, match="no length"):
        run_training(tmp_path / "other", max_steps=None)
    with pytest.raises(ValueError, match="no length"):  # before anybody looks for the data set
        run_training(tmp_path / "other", max_steps=None, dataset="nobody/nothing")
    assert not (tmp_path / "other").exists()


def test_a_run_is_never_overwritten_and_a_resumed_one_must_be_the_same(run_training, finished_run):
    before = sorted((path, path.stat().st_mtime_ns) for path in finished_run.rglob("*"))
    with pytest.raises(ValueError, match="already holds a run: add --resume"):
        run_training(finished_run)
    with pytest.raises(ValueError, match="with seed=1: it was started with seed=3072"):
        run_training(finished_run, "--resume", seed=1)
    with pytest.raises(ValueError, match="embed_dim=8"):
        run_training(finished_run, "--resume", embed_dim=8)
    with pytest.raises(ValueError, match="with batch_size=10: it was started with batch_size=20; restore that value"):
        run_training(finished_run, "--resume", batch_size=10)
    with pytest.raises(ValueError, match="mixed_precision='bf16': .* give --precision fp32, or name a new output_dir"):
        run_training(finished_run, "--resume", precision="bf16")
    with pytest.raises(ValueError, match="encoder_in_bf16=True: .* give no --precision bf16_encoder"):
        run_training(finished_run, "--resume", precision="bf16_encoder")
    assert sorted((path, path.stat().st_mtime_ns) for path in finished_run.rglob("*")) == before
    summary = run_training(finished_run, "--resume", eval_every=5, save_every=4)
    assert summary["step"] == 12 and summary["best"]["eval/prediction_loss"] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dataset": "/nowhere"}, "there is no data set /nowhere"),
        ({"action_dim": 3}, "2 dimensions, but the recipe says action_dim=3: add --action_dim 2"),
        ({"batch_size": 4096}, "windows, fewer than batch_size=4096"),
        ({"frameskip": 20}, "shorter than a window of 80 rows"),
        ({"eval_pairs": 5000}, "n=5000"),
        ({"eval_pairs": 2, "eval_overrides": "sampels=3"}, "sampels"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_any_file(run_training, tmp_path, overrides, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        run_training(tmp_path / "run", **overrides)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_errors_of_the_command_are_one_line_and_status_2(train_module, tiny_arguments, tmp_path, capsys):
    assert train_module.main([*tiny_arguments(tmp_path / "run"), "--lerning_rate", "1"]) == 2
    assert train_module.main(["nowhere.yaml"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "'learning_rate'" in lines[0] and "nowhere.yaml" in lines[1]


def test_a_full_disk_ends_the_run_with_one_line_and_the_previous_state(run_training, tmp_path):
    """Files may not exceed 200 kB from step 4 on: enough for the weights, too little for Adam's moments."""
    import resource

    folder, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def evaluate(model, step):
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        return {}

    try:
        with pytest.raises(OSError, match=r"cannot write .*state \(.*\); .* MiB are free there: make room") as error:
            run_training(folder, eval_every=4, evaluate=evaluate)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert "\n" not in str(error.value)
    assert json.loads((folder / "state" / "progress.json").read_text())["step"] == 4
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "recipe.yaml", "metrics.jsonl", "last", "best", "state",
    }  # fmt: skip
    run_training(folder, "--resume", eval_every=4)


def test_a_diverged_run_stops_before_it_overwrites_its_state(run_training, tmp_path):
    with pytest.raises(ValueError, match="the loss is (nan|inf) at step"):
        run_training(tmp_path / "run", learning_rate=1e30, max_grad_norm=1e30, save_every=1, max_steps=30)
    state = weights(tmp_path / "run" / "state")
    assert all(torch.isfinite(value).all() for value in state.values())


def test_loader_processes_change_nothing(run_training, finished_run, tmp_path):
    run_training(tmp_path / "run", num_workers=1, frame_cache="ram", eval_every=5)
    assert training_metrics(tmp_path / "run") == training_metrics(finished_run)


def test_planning_success_is_measured_on_fixed_problems(run_training, tmp_path):
    cheap = ["samples=8", "iterations=1", "elites=2", "horizon=2", "receding_horizon=2", "budget=10", "goal_offset=5"]
    flags = ["--eval_overrides", *cheap, "draw=rows", "opposite_rooms=false"]
    run_training(tmp_path / "run", *flags, eval_pairs=3, max_steps=2, eval_every=1)
    records = [record for record in metrics(tmp_path / "run") if "eval/success" in record]
    assert len(records) == 2
    assert all(3 * record["eval/success"] in (0, 1, 2, 3) for record in records)
    assert records[0]["eval/random_success"] == records[1]["eval/random_success"]


def test_a_killed_loader_worker_is_one_line_and_the_run_continues(run_training, finished_run, tmp_path):
    def evaluate(model, step):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
        return {}

    with pytest.raises(OSError, match="a loader worker was killed by SIGKILL.* continue with --resume") as error:
        run_training(tmp_path / "run", num_workers=1, eval_every=5, save_every=4, evaluate=evaluate)
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()
    run_training(tmp_path / "run", "--resume", eval_every=5, save_every=4)
    assert training_metrics(tmp_path / "run") == training_metrics(finished_run)


def test_no_worker_survives_an_error(run_training, tmp_path):
    """Nobody joins them but the exit of the process, which would wait for ever."""

    def evaluate(model, step):
        assert multiprocessing.active_children()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):  # pytest holds the error, and the error its frames
        run_training(tmp_path / "run", num_workers=2, eval_every=5, evaluate=evaluate)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("state/optimizer.bin", lambda data: data[: len(data) // 2], "optimizer.bin is damaged: it has .* of .* bytes"),
        ("state/model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "safetensors is damaged: its con"),
        ("state/random_states_0.pkl", lambda data: None, "random_states_0.pkl is missing"),
        ("state/progress.json", lambda data: data[:20], "progress.json is damaged: it holds no JSON object"),
        ("state/progress.json", lambda data: b'{"step": 4}', "progress.json is damaged: it lacks best, evaluated"),
        ("state/progress.json", lambda data: None, "progress.json is missing"),
        ("state/checksums.json", lambda data: b"\xff\xfe", "checksums.json is damaged"),
        ("recipe.yaml", lambda data: b"a: [1", "recipe.yaml is damaged"),
        ("metrics.jsonl", lambda data: data.replace(b'"step": 3,', b""), "metrics.jsonl is damaged: line 3"),
    ],
)
def test_damaged_files_are_named_in_one_line(run_training, finished_run, tmp_path, name, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    damaged = damage((folder / name).read_bytes())
    (folder / name).unlink() if damaged is None else (folder / name).write_bytes(damaged)
    with pytest.raises(ValueError, match=message) as error:
        run_training(folder, "--resume", eval_every=5, save_every=4)
    assert "\n" not in str(error.value) and str(folder / name) in str(error.value)


def test_a_collapsed_run_says_so_at_every_evaluation_and_in_its_report(run_training, tmp_path, caplog):
    folder = tmp_path / "run"
    run_training(folder, sigreg_weight=0, max_steps=60, eval_every=30, learning_rate=3e-2, log_every=30)
    warnings = [record.message for record in caplog.records if "have collapsed" in record.message]
    assert len(warnings) == 2
    assert all("raise sigreg_weight=0.0 or batch_size=20" in warning for warning in warnings)
    page = write_report(folder).read_text()
    assert "the embeddings of step 60 have collapsed" in page
