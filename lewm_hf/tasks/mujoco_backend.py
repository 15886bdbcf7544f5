"""Which OpenGL back end MuJoCo draws with, chosen before MuJoCo is imported, and what to install where none works."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..extras import requires_extra

DEBIAN_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri libopengl0", "osmesa": "libosmesa6 libopengl0"}
NO_BACKEND = "disabled"  # MuJoCo's and dm_control's own word for "physics only"
PROBE = "import mujoco; mujoco.GLContext(8, 8).make_current()"
# The imports alone take a minute where the machine is busy or its disk far away.
PROBE_SECONDS = 300
# What PyOpenGL, glfw, EGL and MuJoCo raise where a system library or a display is missing, at import or later.
BACKEND_ERRORS = (AttributeError, ImportError, OSError, RuntimeError)


def choose_backend() -> str:
    """The OpenGL back end, written to `MUJOCO_GL` unless that is set already: a choice of the user always stands.

    Linux: EGL, else OSMesa, whichever really makes a context; `"disabled"` where neither does, so that physics still
    runs. Elsewhere: GLFW. MuJoCo and dm_control read the variable when first imported: call this before.

    Raises:
        OSError: one line where a back end neither works nor fails in `PROBE_SECONDS`: another one might draw otherwise.
    """
    if "MUJOCO_GL" not in os.environ:
        backend = "glfw"
        if platform.system() == "Linux":
            backend = next((name for name in DEBIAN_PACKAGES if _works(name)), NO_BACKEND)
        os.environ.setdefault("MUJOCO_GL", backend)
    return os.environ["MUJOCO_GL"].strip().lower()


def _works(backend: str) -> bool:
    # In another process: a broken driver may crash, and an initialized one must not be inherited by forked workers.
    environment = {**os.environ, "MUJOCO_GL": backend}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(
            f"MuJoCo's OpenGL back end {backend!r} gave no answer within {PROBE_SECONDS} s, as on a busy machine or "
            f"with a driver that hangs: try again later, or choose it yourself, MUJOCO_GL={backend}; other values are "
            + ", ".join(name for name in (*DEBIAN_PACKAGES, NO_BACKEND) if name != backend)
        ) from error
    except OSError:
        return False
    return probe.returncode == 0


@contextmanager
def mujoco_import(extra: str) -> Iterator[None]:
    """Imports of MuJoCo, and of libraries on top of it, go inside: it chooses the back end first, explains failures.

    Raises:
        ImportError: for a missing package, naming the pip extra.
        OSError: where the back end that `MUJOCO_GL` asks for lacks its system libraries, naming the Debian packages;
            and as `choose_backend`.
    """
    with requires_extra(extra):
        backend = choose_backend()
        try:
            yield
        except ModuleNotFoundError:
            raise
        except BACKEND_ERRORS as error:
            raise OSError(backend_message(backend, error)) from error


def backend_message(backend: str, error: Exception) -> str:
    """One line: what failed and what to install."""
    packages = " or ".join(f"{names} ({name})" for name, names in DEBIAN_PACKAGES.items())
    remedy = f"install the Debian packages {packages}"
    if backend == NO_BACKEND:
        return f"MuJoCo cannot draw, no OpenGL back end works here (MUJOCO_GL={backend}): {remedy}"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"MuJoCo cannot draw with MUJOCO_GL={backend} ({reason}): {remedy}, or leave MUJOCO_GL unset"
