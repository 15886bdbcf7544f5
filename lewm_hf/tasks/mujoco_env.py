"""What the MuJoCo environments share: state = (qpos, qvel), and pictures that depend on the state alone."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .goal_env import GoalEnv
from .mujoco_backend import mujoco_import
from .mujoco_rendering import SceneRenderer, check_quality
from .variation import VariationSpace

with mujoco_import("envs"):
    import mujoco

MAX_IMAGE_SIZE = 8192


class MujocoGoalEnv(GoalEnv):
    """Base of the MuJoCo environments. A subclass names its `camera`, and its `_build` hands a compiled scene to
    `_adopt`; it implements `_set_state` on `self.data`.

    No OpenGL context exists before the first picture is asked for.

    Args:
        variation_space: the factors of variation.
        render_quality: `"reference"` looks like the released data; `"fast"` has no shadows and no multisampling.
        **kwargs: of `GoalEnv`.

    Raises:
        ValueError: for an unknown `render_quality`, or an `image_size` beyond 8192.
    """

    camera: str

    def __init__(self, variation_space: VariationSpace, *, render_quality: str = "reference", **kwargs: Any):
        super().__init__(variation_space, **kwargs)
        if self.image_size > MAX_IMAGE_SIZE:
            raise ValueError(f"image_size={self.image_size} is too large for OpenGL: {MAX_IMAGE_SIZE} pixels at most")
        self.render_quality = check_quality(render_quality)
        self._renderer: SceneRenderer | None = None
        self._build()

    def _adopt(self, model: Any, data: Any) -> None:
        """Takes a newly compiled scene; what was loaded to draw the one before is freed."""
        self.close()
        self.model, self.data = model, data
        # Other states are drawn on a canvas of their own: the live data stay as they are, contacts included.
        self._canvas = mujoco.MjData(model)
        self._textures: bytes | None = None

    def get_state(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def close(self) -> None:
        """Gives up the OpenGL context; a later picture makes a new one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    @classmethod
    def render_batch(cls, envs: Sequence["MujocoGoalEnv"], goals: bool = False) -> np.ndarray:
        """Pictures of many environments of this class, their goals instead if asked: `(n, H, W, 3)` uint8.

        Environments with equal textures share an OpenGL context from then on: each context holds its own copy of
        meshes and textures and, in the reference quality, a shadow map of up to 64 MB.

        Raises:
            ValueError: for an empty list.
        """
        if not envs:
            raise ValueError("no environments to render: give at least one")
        shared = {env._render_key(): env._renderer for env in envs if env._renderer is not None}
        for env in envs:
            if env._renderer is None and env._render_key() in shared:
                env._renderer = shared[env._render_key()].share()
            shared.setdefault(env._render_key(), env._open())
        return np.stack([env._picture(env._posed(goals)) for env in envs])

    def _draw(self) -> np.ndarray:
        return self._picture(self._posed())

    def _draw_state(self, state: np.ndarray) -> np.ndarray:
        return self._picture(self._pose(state))

    def _posed(self, goal: bool = False) -> Any:
        """Data to draw: of the current state, or of the goal."""
        return self._pose(self._require_goal() if goal else self.get_state())

    def _pose(self, state: np.ndarray) -> Any:
        """Data to draw: of a state vector."""
        self._canvas.qpos[:] = state[: self.model.nq]
        mujoco.mj_fwdPosition(self.model, self._canvas)
        return self._canvas

    def _picture(self, data: Any) -> np.ndarray:
        return self._open().draw(self.model, data, self.camera)

    def _open(self) -> SceneRenderer:
        if self._renderer is None:
            self._renderer = SceneRenderer(self.model, self.image_size, self.render_quality)
        return self._renderer

    def _render_key(self) -> tuple:
        """Equal where two environments can be drawn in one OpenGL context."""
        if self._textures is None:
            self._textures = hashlib.blake2b(self.model.tex_data).digest()
        return self.image_size, self.render_quality, self._textures
