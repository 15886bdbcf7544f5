"""Does this machine have what the package needs? Facts, and one line of remedy for each problem.

Every check works where the thing it looks for is missing or broken; libraries that may crash on import are tried in a
process of their own.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import constants
from packaging.requirements import Requirement
from packaging.version import Version

DISTRIBUTION = "lewm-hf"
# As in `tasks.mujoco_backend`, which cannot be imported where gymnasium is missing.
DEBIAN_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri libopengl0", "osmesa": "libosmesa6 libopengl0"}
NO_BACKEND = "disabled"
SYMBOLS = {"ok": "ok", "note": "--", "problem": "!!"}
TRY_SECONDS = 120
# Of free disk: a data set of 224 px episodes and the raw frame cache of a small one.
ENOUGH_DISK = 5 * 2**30
MUJOCO_USERS = ("dm-control", "ogbench")
DRAW = "import mujoco; mujoco.GLContext(8, 8).make_current()"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        status: `"ok"`; `"note"` where something optional is absent; `"problem"` where something used will fail.
        value: what was found, one line.
        remedy: what to do about it, one line; empty where there is nothing to do.
    """

    name: str
    status: Literal["ok", "note", "problem"]
    value: str
    remedy: str = ""


def doctor(env: str | None = None, episodes: str | Path | None = None) -> list[Check]:
    """All checks, in the order in which they are worth reading. Writes nothing; takes some seconds.

    Args:
        env, episodes: also draw states of this data set again and compare; see `check_drift`.

    Raises:
        FileNotFoundError, ValueError, ImportError: one line, where `env` or `episodes` is wrong.
    """
    if env is not None and episodes is None:
        raise ValueError(f"env={env!r} needs episodes to compare with: add --episodes, a data set collected elsewhere")
    drift = [] if episodes is None else [check_drift(episodes, env)]
    return [
        check_python(),
        *check_versions(),
        check_device(),
        check_torchvision(),
        check_mujoco(),
        *check_rendering(),
        check_ffmpeg(),
        check_torchcodec(),
        *check_caches(),
        *drift,
    ]


def format_report(checks: Iterable[Check]) -> str:
    """The checks as a table, a remedy below each that has one, and a last line with the number of problems."""
    checks = list(checks)
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{SYMBOLS[check.status]}  {check.name:<{width}}  {check.value}")
        if check.remedy:
            lines.append(f"    {'':<{width}}  -> {check.remedy}")
    problems = sum(check.status == "problem" for check in checks)
    verdict = "no problems" if not problems else f"{problems} problem{'s' * (problems > 1)}: follow the arrows"
    return "\n".join([*lines, "", verdict])


def exit_status(checks: Iterable[Check]) -> int:
    """1 where any check found a problem, else 0."""
    return int(any(check.status == "problem" for check in checks))


def check_python() -> Check:
    """Python's version and the platform."""
    value = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Check("python", "ok", value)


def check_versions(distribution: str = DISTRIBUTION) -> list[Check]:
    """What `distribution` requires, itself and through its extras, against what is installed.

    A missing requirement is a problem, a missing one of an extra a note that names the extra. A version outside its
    bounds is a problem either way.
    """
    try:
        texts = metadata.requires(distribution) or []
        checks = [Check(distribution, "ok", metadata.version(distribution))]
    except metadata.PackageNotFoundError:
        return [Check(distribution, "problem", "not installed", f"pip install {distribution}")]
    wanted: dict[str, tuple[Requirement, str | None]] = {}
    for requirement in map(Requirement, texts):
        extra = _extra(requirement)
        known = wanted.get(requirement.name)
        # A core requirement says more than the same one in an extra.
        if requirement.name != distribution and (known is None or (known[1] and not extra)):
            wanted[requirement.name] = requirement, extra
    return checks + [_check_version(*one, distribution) for one in wanted.values()]


def _extra(requirement: Requirement) -> str | None:
    """The extra that a requirement belongs to; `None` for a core one."""
    marker = str(requirement.marker or "")
    return marker.partition("extra ==")[2].strip().strip("\"'") or None if "extra ==" in marker else None


def _check_version(requirement: Requirement, extra: str | None, distribution: str) -> Check:
    name, bounds = requirement.name, str(requirement.specifier)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        if extra:
            return Check(name, "note", "not installed", f"if wanted: pip install '{distribution}[{extra}]'")
        return Check(name, "problem", "not installed", f"pip install '{name}{bounds}'")
    if not requirement.specifier.contains(Version(version), prereleases=True):
        return Check(name, "problem", f"{version}, but {bounds} is needed", f"pip install '{name}{bounds}'")
    return Check(name, "ok", version)


def check_device() -> Check:
    """The accelerator that models would run on, or why there is none."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is not None:
        name_of = getattr(getattr(torch, device.type, None), "get_device_name", None)
        named = "" if name_of is None else name_of(0)
        return Check("device", "ok", f"{device.type}, {torch.accelerator.device_count()} of them, {named}".rstrip(", "))
    threads = f"cpu, {torch.get_num_threads()} threads"
    if shutil.which("nvidia-smi"):
        remedy = "install the torch build for its driver: https://pytorch.org/get-started/locally"
        return Check("device", "problem", f"{threads}, although there is an NVIDIA driver", remedy)
    return Check("device", "ok", f"{threads}; no accelerator")


def check_torchvision() -> Check:
    """A torchvision built for another torch makes transformers fail at import; none at all does no harm."""
    version = _version("torchvision")
    if version is None:
        return Check("torchvision", "note", "not installed; only the extra `timm` needs it")
    error = _try("import torch, torchvision; torchvision.ops.nms")
    pair = f"{version} beside torch {torch.__version__}"
    if error is None:
        return Check("torchvision", "ok", pair)
    remedy = "pip uninstall torchvision, or install torch and torchvision from one index: transformers imports it"
    return Check("torchvision", "problem", f"{pair} does not import: {error}", remedy)


def check_mujoco() -> Check:
    """MuJoCo beside the libraries that are built on it: pip lets pairs through that fail at import."""
    version = _version("mujoco")
    found = [name for name in MUJOCO_USERS if _version(name)]
    if version is None:
        remedy = "for Reacher and Cube: pip install 'lewm-hf[reacher,cube]'"
        return Check("mujoco pair", "note", "mujoco is not installed", remedy)
    pair = ", ".join([f"mujoco {version}", *(f"{name} {_version(name)}" for name in found)])
    if "dm-control" in found:
        # The two disagree only once a scene is compiled.
        scene = "from dm_control import mjcf; mjcf.Physics.from_mjcf_model(mjcf.RootElement())"
        error = _try(scene, MUJOCO_GL=NO_BACKEND)
        if error is not None:
            return Check("mujoco pair", "problem", f"{pair}: {error}", "pip install 'mujoco>=3.17,<4'")
    return Check("mujoco pair", "ok", pair)


def check_rendering() -> list[Check]:
    """Which OpenGL back ends can draw, each tried in a process of its own, and the one that `MUJOCO_GL` asks for."""
    if _version("mujoco") is None:
        return [Check("rendering", "note", "mujoco is not installed; TwoRoom and Push-T draw without OpenGL")]
    names = tuple(DEBIAN_PACKAGES) if platform.system() == "Linux" else ("glfw",)
    errors = {name: _try(DRAW, MUJOCO_GL=name) for name in names}
    checks, works = [], [name for name in names if errors[name] is None]
    for name, error in errors.items():
        if error is None:
            checks.append(Check(f"rendering {name}", "ok", "works"))
        else:
            remedy = f"apt-get install {DEBIAN_PACKAGES[name]}" if name in DEBIAN_PACKAGES else "run it with a display"
            # One back end is enough.
            checks.append(Check(f"rendering {name}", "note" if works else "problem", error, remedy))
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked:
        checks.append(_check_choice(asked, works, errors))
    elif works:
        checks.append(Check("MUJOCO_GL", "ok", f"unset; {works[0]} will be used"))
    return checks


def _check_choice(asked: str, works: list[str], errors: dict[str, str | None]) -> Check:
    error = errors[asked] if asked in errors else _try(DRAW, MUJOCO_GL=asked)
    if asked == NO_BACKEND:
        error = "Reacher and Cube cannot draw"
    if error is None:
        return Check("MUJOCO_GL", "ok", asked)
    remedy = f"export MUJOCO_GL={works[0]}, or unset it" if works else "unset it, and install a back end as above"
    return Check("MUJOCO_GL", "problem", f"{asked!r} does not work: {error}", remedy)


def check_drift(episodes: str | Path, env: str | None = None) -> Check:
    """Whether this machine draws the frames of a data set as the machine that stored them did.

    Args:
        episodes: directory or Hub id, with simulator states.
        env: what they have to be episodes of, short name or id.

    Raises:
        See `lewm_hf.data.render_drift.render_drift`.
    """
    from ..data.render_drift import THRESHOLD, render_drift

    try:
        drift = render_drift(episodes, env)
    except FileNotFoundError:
        raise
    except (ImportError, OSError) as error:
        return Check("drawing", "problem", " ".join(str(error).split()), "make its rendering work first, see above")
    value = (
        f"mean absolute pixel difference {drift.mean:.3f} of 255 over {len(drift.per_frame)} frames of {episodes} "
        f"(worst frame {drift.per_frame.max():.3f}, {100 * drift.changed:.2f} % of the pixels differ)"
    )
    name = f"drawing {drift.env_id.rpartition(':')[2].rpartition('/')[2]}"
    if drift.mean <= THRESHOLD:
        return Check(name, "ok", value)
    if drift.recorded:
        pinned = " ".join(f"'{package}=={version}'" for package, version in drift.recorded.items())
        return Check(name, "problem", value, f"draw as the data set does: pip install {pinned}")
    remedy = "try MUJOCO_GL=osmesa and MUJOCO_GL=egl, or collect the episodes again on this machine"
    return Check(name, "problem", value, remedy)


def check_ffmpeg() -> Check:
    """FFmpeg's program; the package itself stores pictures and writes GIFs without it."""
    path = shutil.which("ffmpeg")
    if path is None:
        return Check("ffmpeg", "note", "not found; only video data sets need it", "if wanted: apt-get install ffmpeg")
    try:
        run = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=TRY_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("ffmpeg", "problem", f"{path} does not run: {error}", "apt-get install --reinstall ffmpeg")
    if run.returncode:
        reason = _last_line(run.stderr) or f"exit status {run.returncode}"
        return Check("ffmpeg", "problem", f"{path} does not run: {reason}", "apt-get install --reinstall ffmpeg")
    return Check("ffmpeg", "ok", f"{run.stdout.splitlines()[0].partition(' Copyright')[0]} at {path}")


def check_torchcodec() -> Check:
    """`datasets` loads torchcodec for video columns, and fails where it does not fit torch or FFmpeg is missing."""
    version = _version("torchcodec")
    if version is None:
        return Check("torchcodec", "note", "not installed; only video data sets need it")
    error = _try("import torchcodec.decoders")
    if error is None:
        return Check("torchcodec", "ok", version)
    remedy = "apt-get install ffmpeg, and the torchcodec of this torch; or pip uninstall torchcodec"
    return Check("torchcodec", "problem", f"{version} does not import: {error}", remedy)


def check_caches() -> list[Check]:
    """Where the Hub's files and data sets are kept, and the room left there and here."""
    import datasets

    places = {
        "hub cache": (Path(constants.HF_HUB_CACHE), "HF_HUB_CACHE"),
        "datasets cache": (Path(datasets.config.HF_DATASETS_CACHE), "HF_DATASETS_CACHE"),
        "working folder": (Path.cwd(), None),
    }
    return [_check_folder(name, path, variable) for name, (path, variable) in places.items()]


def _check_folder(name: str, path: Path, variable: str | None) -> Check:
    # A cache is made at its first use: what counts is the folder that it would be made in.
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    elsewhere = f"export {variable}=/another/folder" if variable else "work in another folder"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Check(name, "problem", f"{path} cannot be written to", elsewhere)
    free = shutil.disk_usage(existing).free
    value = f"{path}, {free / 2**30:.1f} GiB free"
    if free < ENOUGH_DISK:
        return Check(name, "problem", value, f"free {ENOUGH_DISK / 2**30:.0f} GiB there, or {elsewhere}")
    return Check(name, "ok", value)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _try(code: str, **environment: str) -> str | None:
    """Runs Python code in another process: `None` where it works, else the last line of what it says."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True,
            timeout=TRY_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer within {TRY_SECONDS} s"
    if run.returncode == 0:
        return None
    return _last_line(run.stderr) or f"exit status {run.returncode}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Exceptions that MuJoCo's destructors raise while Python ends come after the one that says what is wrong.
    errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    return (errors or lines or [""])[0 if errors else -1][:200]
