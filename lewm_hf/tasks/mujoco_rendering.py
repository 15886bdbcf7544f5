"""Pictures of MuJoCo scenes without a screen: any size, two qualities, one OpenGL context for many equal scenes."""

import atexit
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from .mujoco_backend import BACKEND_ERRORS, DEBIAN_PACKAGES, backend_message, choose_backend, mujoco_import

with mujoco_import("envs"):
    import mujoco

QUALITIES = ("reference", "fast")
MAX_GEOMS = 1000


def check_quality(render_quality: str) -> str:
    """`render_quality`, if it is a known one. Raises `ValueError` otherwise."""
    if render_quality not in QUALITIES:
        raise ValueError(f"render_quality={render_quality!r} is unknown: use one of {', '.join(QUALITIES)}")
    return render_quality


class SceneRenderer:
    """An OpenGL context loaded with a model's meshes and textures, which draws any scene that shares them.

    Args:
        model: the compiled `MjModel`.
        image_size: side of the square pictures in pixels, any.
        render_quality: `"reference"`, with shadows and multisampling as in the released data, or `"fast"`, without;
            MuJoCo then also lights large planes only from their corners, which darkens the floor.

    Raises:
        ValueError: for an unknown quality.
        OSError: where the back end makes no context, naming the Debian packages.
    """

    def __init__(self, model: Any, image_size: int, render_quality: str = "reference"):
        fast = check_quality(render_quality) == "fast"
        self._size = image_size
        self._users = 1
        self._gl: Any = None
        self._context: Any = None
        with _explained():
            self._gl = _make_context(image_size)
            self._gl.make_current()
            with _settings(model, image_size, fast):
                self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        if fast:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._rectangle = mujoco.MjrRect(0, 0, image_size, image_size)
        self._options = mujoco.MjvOption()
        # At exit the driver shuts down before Python's finalizers run, and freeing a context after that prints errors.
        self._at_exit = partial(_free, weakref.ref(self))
        atexit.register(self._at_exit)

    def draw(self, model: Any, data: Any, camera: str) -> np.ndarray:
        """The scene as `camera` sees it: `(image_size, image_size, 3)` uint8.

        Args:
            model, data: the renderer's model, or another with the same meshes and textures. Positions in `data` must
                be up to date (`mj_fwdPosition`).
            camera: name of a camera of the model.
        """
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._options, None, view, everything, self._scene)
        self._gl.make_current()
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        image = np.empty((self._size, self._size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, self._rectangle, self._context)
        return np.ascontiguousarray(image[::-1])  # OpenGL counts rows from the bottom

    def share(self) -> "SceneRenderer":
        """This renderer for one more user: it closes with the last of them."""
        self._users += 1
        return self

    def close(self) -> None:
        """Gives the renderer up; the last user's call frees the context."""
        self._users -= 1
        if self._users == 0:
            self._free()

    def _free(self) -> None:
        if self._gl is None:
            return
        atexit.unregister(self._at_exit)
        self._gl.make_current()
        self._context.free()
        self._gl.free()
        self._gl = self._context = None

    def __del__(self) -> None:
        if hasattr(self, "_at_exit"):  # else __init__ failed, and there is nothing to free
            self._free()


@contextmanager
def _settings(model: Any, image_size: int, fast: bool) -> Iterator[None]:
    """A context takes its size, samples and shadow map from the model, which may belong to others too."""
    glob, quality = model.vis.global_, model.vis.quality
    before = glob.offwidth, glob.offheight, quality.offsamples, quality.shadowsize
    glob.offwidth = glob.offheight = image_size
    if fast:
        quality.offsamples = quality.shadowsize = 0
    try:
        yield
    finally:
        glob.offwidth, glob.offheight, quality.offsamples, quality.shadowsize = before


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    # GLFW without a display hands out a context that only fails once it is used.
    except (*BACKEND_ERRORS, mujoco.FatalError) as error:
        raise OSError(backend_message(choose_backend(), error)) from error


def _free(reference: weakref.ref) -> None:
    renderer = reference()
    if renderer is not None:
        renderer._free()


def _make_context(image_size: int) -> Any:
    # By name: `mujoco.GLContext` is fixed by the first import of mujoco, which may have come before the choice.
    backend = choose_backend()
    module = import_module(f"mujoco.{backend}" if backend in DEBIAN_PACKAGES else "mujoco")
    return module.GLContext(image_size, image_size)
