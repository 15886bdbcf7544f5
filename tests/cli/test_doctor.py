"""The checks in situations that people are in; what is broken is broken for real where that is possible."""

import io
import json
import shutil
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lewm_hf.cli import doctor as module
from lewm_hf.cli import main
from lewm_hf.cli.doctor import (
    Check,
    check_drift,
    check_ffmpeg,
    check_mujoco,
    check_rendering,
    check_torchvision,
    check_versions,
    exit_status,
    format_report,
)


def by_name(checks):
    return {check.name: check for check in checks}


def test_every_installed_requirement_is_reported_with_its_version():
    checks = by_name(check_versions())
    for name in ("torch", "transformers", "datasets", "safetensors", "numpy", "pillow"):
        assert checks[name] == Check(name, "ok", metadata.version(name))


def test_versions_outside_their_bounds_and_missing_packages(monkeypatch):
    monkeypatch.setattr(
        metadata,
        "requires",
        lambda name: [
            "torch<1",
            "surely-not-installed>=2",
            'also-not-installed; extra == "video"',
            'numpy>=1; extra == "video"',
        ],
    )
    checks = by_name(check_versions())
    assert checks["torch"].status == "problem" and checks["torch"].remedy == "pip install 'torch<1'"
    assert checks["surely-not-installed"].status == "problem"
    assert checks["also-not-installed"].status == "note" and "lewm-hf[video]" in checks["also-not-installed"].remedy
    assert checks["numpy"].status == "ok"


def test_a_distribution_that_is_not_installed():
    (check,) = check_versions("surely-not-installed")
    assert check.status == "problem" and check.remedy == "pip install surely-not-installed"


@pytest.fixture
def shadowed(tmp_path, monkeypatch):
    """Puts a distribution before the installed ones, with `code` as its module."""

    def shadow(name: str, version: str, code: str):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return shadow


def test_a_torchvision_of_another_build(shadowed):
    shadowed("torchvision", "0.28.0", "raise RuntimeError('operator torchvision::nms does not exist')")
    check = check_torchvision()
    assert check.status == "problem" and "torchvision::nms does not exist" in check.value
    assert "one index" in check.remedy


def test_a_mujoco_that_dm_control_cannot_use(shadowed):
    pytest.importorskip("dm_control")
    shadowed("mujoco", "4.0.0", "raise AttributeError(\"'MjModel' object has no attribute 'flex_vertedge'\")")
    check = check_mujoco()
    assert check.status == "problem" and "mujoco 4.0.0" in check.value and "flex_vertedge" in check.value
    assert check.remedy == "pip install 'mujoco>=3.17,<4'"


def test_mujoco_missing(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert check_mujoco().status == "note" and "pip install" in check_mujoco().remedy
    assert [check.status for check in check_rendering()] == ["note"]


def test_mujoco_gl_that_does_not_exist(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    found = check_rendering()
    report = format_report(found)
    assert exit_status(found) == 1
    assert "'vulkan' does not work" in report and "unset it" in report


def test_one_back_end_is_enough(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(module, "_try", lambda code, MUJOCO_GL: None if MUJOCO_GL == "osmesa" else "no libEGL")
    monkeypatch.setattr(module, "_version", lambda name: "3.17.0")
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    checks = by_name(check_rendering())
    assert exit_status(checks.values()) == 0
    assert "libegl1" in checks["rendering egl"].remedy and "osmesa" in checks["MUJOCO_GL"].value
    monkeypatch.setattr(module, "_try", lambda code, MUJOCO_GL: "no library")
    assert exit_status(check_rendering()) == 1


def test_ffmpeg_absent_working_and_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_ffmpeg().status == "note"
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'ffmpeg version 7.1 Copyright (c) people'\n")
    program.chmod(0o755)
    assert check_ffmpeg() == Check("ffmpeg", "ok", f"ffmpeg version 7.1 at {program}")
    program.write_text("#!/bin/sh\necho 'libavcodec.so.61: cannot open shared object file' >&2\nexit 127\n")
    assert check_ffmpeg().status == "problem" and "libavcodec.so.61" in check_ffmpeg().value


def test_a_full_disk_and_a_cache_that_is_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module.constants, "HF_HUB_CACHE", str(tmp_path / "new" / "hub"))
    checks = by_name(module.check_caches())
    assert str(tmp_path / "new") in checks["hub cache"].value and not (tmp_path / "new").exists()
    (tmp_path / "new").write_text("")
    assert by_name(module.check_caches())["hub cache"].remedy == "export HF_HUB_CACHE=/another/folder"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    check = by_name(module.check_caches())["working folder"]
    assert check.status == "problem" and "1.0 GiB" in check.value


def test_packages_named_are_those_of_the_environments():
    backend = pytest.importorskip("lewm_hf.tasks.mujoco_backend")
    assert module.DEBIAN_PACKAGES == backend.DEBIAN_PACKAGES and module.NO_BACKEND == backend.NO_BACKEND


def test_the_report_shows_every_remedy_and_counts_problems():
    checks = [Check("a", "ok", "1"), Check("bb", "problem", "2", "do this"), Check("c", "note", "3", "or that")]
    text = format_report(checks)
    assert text.splitlines()[0] == "ok  a   1"
    assert "-> do this" in text and "-> or that" in text and text.endswith("1 problem: follow the arrows")
    assert exit_status(checks) == 1 and exit_status(checks[:1]) == 0
    assert format_report(checks[:1]).endswith("no problems")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Episodes of TwoRoom and Push-T."""
    from lewm_hf.data.collect import collect

    pytest.importorskip("pymunk")
    folder = tmp_path_factory.mktemp("drawn")
    for env in ("two_room", "push_t"):
        collect(env, folder / env, 2, image_size=32, test_fraction=0.5, max_steps=8, workers=1)
    return folder


def repaint(folder, change):
    """Changes every stored frame; returns the mean absolute difference that this makes, by hand."""
    differences = []
    for path in (folder / "data").rglob("*.parquet"):
        table, frames = pq.read_table(path), []
        for value in table.column("observation.image").to_pylist():
            image = np.asarray(Image.open(io.BytesIO(value["bytes"])).convert("RGB"))
            differences.append(np.abs(change(image).astype(float) - image).mean())
            buffer = io.BytesIO()
            Image.fromarray(change(image)).save(buffer, "PNG")
            frames.append({"bytes": buffer.getvalue(), "path": None})
        where = table.schema.get_field_index("observation.image")
        column = pa.array(frames, table.schema.field(where).type)
        pq.write_table(table.set_column(where, table.schema.field(where), column), path)
    return np.mean(differences)


@pytest.mark.parametrize("env", ["two_room", "push_t"])
def test_states_drawn_again_are_the_stored_frames(drawn, env):
    check = check_drift(drawn / env, env)
    assert check.status == "ok" and "pixel difference 0.000 of 255" in check.value and not check.remedy


def test_frames_of_another_renderer_are_a_problem(drawn, tmp_path):
    folder = tmp_path / "push_t"
    shutil.copytree(drawn / "push_t", folder)
    expected = repaint(folder, lambda image: np.where(image > 128, image - 3, image + 5).astype(np.uint8))
    check = check_drift(folder)
    found = float(check.value.split("difference ")[1].split(" of")[0])
    assert check.status == "problem" and 2.9 < expected < 5.1 and found == pytest.approx(expected, abs=0.5)
    assert "100.00 % of the pixels differ" in check.value and "collect the episodes again" in check.remedy
    description = json.loads((folder / "episodes.json").read_text())
    description["versions"] |= {"opencv-python-headless": "1.2.3", "mujoco": "1.2.3"}
    (folder / "episodes.json").write_text(json.dumps(description))
    assert check_drift(folder).remedy.endswith("pip install 'opencv-python-headless==1.2.3'")


def test_a_small_difference_is_none(drawn, tmp_path):
    folder = tmp_path / "two_room"
    shutil.copytree(drawn / "two_room", folder)

    def one_corner(image):
        image = image.copy()
        image[0, 0] ^= 1
        return image

    assert 0 < repaint(folder, one_corner) < 0.01
    assert check_drift(folder).status == "ok"


def test_what_cannot_be_compared_is_refused_in_one_line(drawn, tmp_path, capsys):
    shutil.copytree(drawn / "two_room", tmp_path / "nameless")
    description = json.loads((tmp_path / "nameless" / "episodes.json").read_text())
    (tmp_path / "nameless" / "episodes.json").write_text(json.dumps(description | {"env": None}))
    for arguments, reason in (
        (["--env", "cube"], "needs episodes"),
        (["--env", "cube", "--episodes", drawn / "push_t"], "episodes of lewm/PushT-v0, not of cube"),
        (["--episodes", tmp_path / "nothing"], "there is no data set"),
        (["--episodes", tmp_path / "nameless"], "does not say which environment"),
    ):
        assert main(["doctor", *map(str, arguments)]) == 2
        said = capsys.readouterr()
        assert reason in said.err and said.err.count("\n") == 1 and not said.out


def test_a_renderer_that_fails_is_reported_with_the_rest(drawn, monkeypatch):
    def broken(*_, **__):
        raise OSError("MuJoCo cannot draw:\n no library")

    monkeypatch.setattr("lewm_hf.data.render_drift.make_env", broken)
    assert check_drift(drawn / "push_t") == Check(
        "drawing", "problem", "MuJoCo cannot draw: no library", "make its rendering work first, see above"
    )
