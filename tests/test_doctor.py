"""The checks in situations that people are in; what is broken is broken for real where that is possible."""

import shutil
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from lewm_hf import doctor as module
from lewm_hf.doctor import (
    Check,
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


def test_mujoco_gl_that_does_not_exist():
    pytest.importorskip("mujoco")
    code = (
        "from lewm_hf.doctor import *; found = check_rendering(); print(format_report(found)); "
        "raise SystemExit(exit_status(found))"
    )
    run = subprocess.run([sys.executable, "-c", code], env={"MUJOCO_GL": "vulkan"}, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert "'vulkan' does not work" in run.stdout and "unset it" in run.stdout and "vulkan" in run.stdout


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
    backend = pytest.importorskip("lewm_hf.envs.mujoco_backend")
    assert module.DEBIAN_PACKAGES == backend.DEBIAN_PACKAGES and module.NO_BACKEND == backend.NO_BACKEND


def test_a_missing_module_does_not_stop_the_import():
    code = (
        "import sys; sys.modules.update({name: None for name in ('gymnasium', 'mujoco', 'dm_control', 'pymunk')})\n"
        "from lewm_hf.doctor import check_versions; print(len(check_versions()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and int(run.stdout) > 10, run.stderr


def test_the_report_shows_every_remedy_and_counts_problems():
    checks = [Check("a", "ok", "1"), Check("bb", "problem", "2", "do this"), Check("c", "note", "3", "or that")]
    text = format_report(checks)
    assert text.splitlines()[0] == "ok  a   1"
    assert "-> do this" in text and "-> or that" in text and text.endswith("1 problem: follow the arrows")
    assert exit_status(checks) == 1 and exit_status(checks[:1]) == 0
    assert format_report(checks[:1]).endswith("no problems")
