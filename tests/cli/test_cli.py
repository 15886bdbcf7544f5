"""The command line: thin, and what the user got wrong is one line and status 2."""

import json
import runpy
import shutil
import sys

import pytest
from PIL import Image

from lewm_hf import LeWMDecoder, LeWMDecoderConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.cli import main
from lewm_hf.data.collect import collect
from lewm_hf.evaluation.success import measure


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return collect("two_room", tmp_path_factory.mktemp("data") / "episodes", 12, image_size=28, workers=1)


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refused(capsys, *argv) -> str:
    """Runs a command that must fail, and returns the one line it says."""
    capsys.readouterr()
    assert main([str(part) for part in argv]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    return said[0]


QUICK = ("--set", "samples=8", "--set", "iterations=2", "--set", "elites=4", "--set", "opposite_rooms=false")
ONE = ("-n", 1, "--seeds", 1, *QUICK)


def test_eval_prints_success_beside_its_floor_and_writes_rows_and_films(dataset, checkpoint, tmp_path, capsys):
    out = tmp_path / "eval"
    argv = ["eval", checkpoint, "--episodes", dataset, "--protocol", "clean", *ONE, "--video", 1, "--out", out]
    assert main([str(part) for part in argv]) == 0
    text = capsys.readouterr().out
    for words in ("protocol clean", "success", "95 % interval", "random policy", "solved at the start", "s/plan"):
        assert words in text
    rows = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 1 and isinstance(rows[0]["success"], bool)
    assert len(list((out / "videos").iterdir())) == 1
    assert json.loads((out / "results.json").read_text())["success"]["n"] == 1


def test_eval_keeps_what_is_there_and_continues_what_was_interrupted(checkpoint, tmp_path, capsys, monkeypatch):
    out = tmp_path / "eval"
    argv = ["eval", checkpoint, "--env", "two_room", "-n", 1, "--seeds", 42, 43, *QUICK[:6], "--set", "budget=5"]
    argv = [str(part) for part in (*argv, "--out", out)]
    act = measure._act

    def interrupted(task, vector_env, manifest, progress):
        if manifest.seed == 43:
            raise KeyboardInterrupt
        return act(task, vector_env, manifest, progress)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "_act", interrupted)
        assert main(argv) == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"lewm eval: interrupted; seeds that were measured are kept in {out}, the same command continues"
    assert main(argv) == 0 and "wrote" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "--overwrite" in refused(capsys, *argv)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    # At several offsets nothing is begun where the last would be refused.
    (out / "offset-50").mkdir()
    (out / "results.json").rename(out / "offset-50" / "results.json")
    assert "offset-50 holds an evaluation already" in refused(capsys, *argv, "--offset", "25", "50")
    assert not (out / "offset-25").exists()
    assert main([*argv, "--overwrite"]) == 0


@pytest.fixture
def decoder(tiny_config, tmp_path):
    sizes = {"patch_size": 7, "hidden_size": 24, "layers": 1, "heads": 2, "mlp_size": 32}
    decoder = LeWMDecoder(LeWMDecoderConfig(embed_dim=tiny_config.embed_dim, image_size=28, **sizes))
    decoder.save_pretrained(tmp_path / "decoder")
    return tmp_path / "decoder"


def test_eval_at_several_offsets_with_the_pairs_that_ship(checkpoint, decoder, tmp_path, capsys):
    out = tmp_path / "eval"
    quick = ("--set", "samples=8", "--set", "iterations=1", "--set", "elites=4")
    argv = ["eval", checkpoint, "--env", "two_room", "-n", 2, "--seeds", 43, *quick, "--offset", 25, 50]
    assert main([str(part) for part in (*argv, "--video", 1, "--decoder", decoder, "--out", out)]) == 0
    for offset in (25, 50):
        result = json.loads((out / f"offset-{offset}" / "results.json").read_text())
        assert (result["protocol"]["goal_offset"], result["protocol"]["budget"]) == (offset, 2 * offset)
        assert result["pairs"] == "shipped" and result["success"]["n"] == 2
        assert ("goal_offset" in result["protocol"]["overrides"]) == (offset != 25)  # 25 and 50 are the protocol's own
        with Image.open(next((out / f"offset-{offset}" / "videos").iterdir())) as film:
            assert film.n_frames > 1
    # Before the first episode of the first offset.
    said = refused(capsys, *argv[:-1], "7")
    assert "no pairs ship for two_room, protocol clean, goal_offset=7, seed 43" in said
    assert "contradict" in refused(capsys, *argv, "--set", "goal_offset=50")


def test_decode_writes_strips_and_errors(dataset, checkpoint, decoder, tmp_path, capsys):
    out = tmp_path / "decode"
    argv = ["decode", checkpoint, decoder, "--episodes", dataset, "--strips", 2, "--steps", 10, "--stretches", 4]
    assert main([str(part) for part in (*argv, "--split", "train", "--out", out)]) == 0
    said = capsys.readouterr().out
    assert "PSNR in dB" in said and "last known frame" in said and "decode.json" in said
    assert len(list((out / "strips").iterdir())) == 2 and (out / "decode.png").is_file()
    assert json.loads((out / "decode.json").read_text())["settings"]["steps"] == [0, 5, 10]
    assert "no config.json" in refused(capsys, "decode", checkpoint, tmp_path, "--episodes", dataset)
    assert "is a lewm, not a lewm_decoder" in refused(capsys, "decode", checkpoint, checkpoint, "--episodes", dataset)


def test_collect_again_changes_nothing_and_data_stats_agrees(dataset, capsys):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.is_file()}
    argv = ["collect", "two_room", "--episodes", "12", "--image-size", "28", "--out", str(dataset), "--workers", "1"]
    assert main(argv) == 0
    assert before == {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.is_file()}
    assert main(["data-stats", str(dataset)]) == 0
    assert "agrees" in capsys.readouterr().out


def test_a_card_that_does_not_match_its_files_is_an_error(dataset, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    next(copy.glob("data/chunk-000/*.parquet")).unlink()
    assert str(copy) in refused(capsys, "data-stats", copy) or "data-stats" in refused(capsys, "data-stats", copy)


def test_collect_refuses_what_it_cannot_do(dataset, tmp_path, capsys):
    out = tmp_path / "new"
    assert "--episodes" in refused(capsys, "collect", "two_room", "--out", out)
    assert "seed" in refused(
        capsys, "collect", "two_room", "--episodes", 12, "--image-size", 28, "--seed", 5, "--out", dataset
    )
    assert "shard" in refused(capsys, "collect", "two_room", "--episodes", 4, "--shard", "4/4", "--out", out)
    for shard in ("1/0", "0/0", "3/2"):
        said = refused(capsys, "collect", "two_room", "--episodes", 4, "--shard", shard, "--out", out)
        assert shard in said and "0/4" in said
    twice = ("--image-size", 28, "--env-arg", "image_size=32")
    assert "image_size=32, which image_size=28" in refused(
        capsys, "collect", "two_room", "--episodes", 4, *twice, "--out", out
    )
    assert "speedd" in refused(capsys, "collect", "two_room", "--episodes", 4, "--env-arg", "speedd=3", "--out", out)
    assert "name=value" in refused(capsys, "collect", "two_room", "--episodes", 4, "--env-arg", "speed", "--out", out)
    assert not out.exists()


def test_eval_refuses_a_checkpoint_without_action_statistics(dataset, tiny_config, tmp_path, capsys):
    tiny_config.action_mean = tiny_config.action_std = None
    LeWMModel(tiny_config).save_pretrained(tmp_path / "model")
    LeWMImageProcessor(image_size=28).save_pretrained(tmp_path / "model")
    said = refused(capsys, "eval", tmp_path / "model", "--episodes", dataset, *ONE, "--out", tmp_path / "o")
    assert "action statistics" in said
    assert not (tmp_path / "o").exists()


def test_eval_refuses_unknown_protocols_values_and_checkpoints(dataset, checkpoint, tmp_path, capsys):
    assert "protocol" in refused(capsys, "eval", checkpoint, "--episodes", dataset, "--protocol", "papre")
    assert "samples" in refused(capsys, "eval", checkpoint, "--episodes", dataset, "--set", "sampels=3")
    assert str(tmp_path / "none") in refused(capsys, "eval", tmp_path / "none", "--episodes", dataset, *ONE)
    said = refused(capsys, "eval", checkpoint, "--episodes", dataset, "--env", "reacher", *ONE)
    assert "eacher" in said


@pytest.mark.parametrize("module", ["lewm_hf.cli", "lewm_cli"])
def test_the_package_is_the_command(module, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lewm", "data-stats", str(tmp_path / "missing")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(module, run_name="__main__")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "missing" in said


def test_report_puts_a_run_on_one_page(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "prediction_loss": 0.5}\n{"step": 2, "prediction_loss": 0.25}\n')
    assert main(["report", str(run)]) == 0
    page = run / "report" / "index.html"
    assert f"wrote {page}" in capsys.readouterr().out and "Prediction loss" in page.read_text()
    assert "nothing to report" in refused(capsys, "report", tmp_path)
