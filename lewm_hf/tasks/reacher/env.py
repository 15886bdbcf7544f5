"""Reacher: a planar arm with two joints must take a pose (`lewm/Reacher-v0`), on dm_control's model."""

from typing import Any

import numpy as np
from gymnasium import spaces

from ..measurable import Events, Target, circle, draw_until
from ..mujoco_backend import mujoco_import
from ..mujoco_env import MujocoGoalEnv
from ..variation import Integers, Uniform, VariationSpace

with mujoco_import("reacher"):
    import mujoco
    from dm_control.suite import reacher as suite

ACTION_REPEAT = 2
ANGLE_TOLERANCE = 0.05
TARGET_RADIUS = 0.015
TELEPORT = 1.0
BOX, SPHERE = 0, 1
SHAPES = {BOX: mujoco.mjtGeom.mjGEOM_BOX, SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE}


class ReacherEnv(MujocoGoalEnv):
    """Bring both joints within 0.05 rad of a goal pose.

    State: shoulder and wrist angle in rad, their velocities in rad/s. The shoulder turns without bounds, the wrist
    within 160 degrees either way. Action: `Box(-1, 1, (2,))`, torques in units of 0.05 N m, clamped, held for two
    control steps of 0.02 s; the second is left out when the first enters the goal. There is no reset inside a step and
    no time limit here. Observation (6, float32): both angles, vector from fingertip to target, both velocities.
    Reward: control steps with the fingertip on the target, 0 to 2.

    Success: |angle - goal angle| < 0.05 rad for both joints, the shoulder's modulo a full turn. Velocities are free.

    The target is a ball where the goal pose puts the fingertip. It is invisible unless `rendering.render_target` is 1.
    (The reference's `agent.finger_locked` has no effect there and is left out.)

    Args:
        image_size: side of the pictures, drawn at that size.
        render_mode: `"rgb_array"`.
        compat: compare the raw shoulder angle, as the reference does: a pose one turn away does not count.
        render_quality: `"reference"` looks like the released data; `"fast"` has no shadows and no multisampling.

    Raises:
        ValueError: for an unknown `render_quality` or `render_mode`, or an impossible `image_size`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    state_names = ("shoulder", "wrist", "shoulder_velocity", "wrist_velocity")
    success_rule = f"|angle - goal| < {ANGLE_TOLERANCE:g} rad for shoulder and wrist"
    velocities = slice(2, 4)
    distance_unit = "rad, both joints"
    probe_targets = (
        Target("joint angles"),
        Target("fingertip position", "m"),
        Target("joint velocity", "rad/s", moving=True),
    )
    events = Events("random", 80, "agent.color", "the arm", f"the arm, one joint by at least {TELEPORT:g} rad")
    camera = "fixed"

    def __init__(
        self,
        image_size: int = 224,
        render_mode: str | None = "rgb_array",
        compat: bool = False,
        render_quality: str = "reference",
    ):
        self._compiled: dict[str, Any] | None = None
        self._score = 0.0
        self.observation_space = spaces.Box(-np.inf, np.inf, (6,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
        super().__init__(
            variation_space(),
            render_quality=render_quality,
            image_size=image_size,
            render_mode=render_mode,
            compat=compat,
        )

    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return np.all(np.abs(self.joint_errors(states, goals)) < ANGLE_TOLERANCE, axis=-1)

    def joint_errors(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Goal minus current angles `(n, 2)` in rad, the shoulder's the short way round unless `compat`."""
        errors = np.asarray(goals, dtype=np.float64)[..., :2] - np.asarray(states, dtype=np.float64)[..., :2]
        if not self.compat:
            errors[..., 0] = (errors[..., 0] + np.pi) % (2 * np.pi) - np.pi
        return errors

    def distance(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self.joint_errors(states, goals), axis=1)

    def probe_values(self, states: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
        fingertips = []
        for state in states:
            self.set_state(state)
            fingertips.append(self.data.geom("finger").xpos[:2].copy())
        return {
            "joint angles": circle(states[:, 0:2]),
            "fingertip position": np.stack(fingertips),
            "joint velocity": states[:, 2:4],
        }

    def teleport(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        low, high = self.model.joint("wrist").range

        def draw() -> np.ndarray:
            return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(low, high), *state[2:]])

        def accept(new: np.ndarray) -> bool:
            return bool(np.abs(self.joint_errors(new[None], state[None])).max() >= TELEPORT)

        return draw_until(draw, accept, "pose")

    def set_goal(self, state: np.ndarray) -> None:
        super().set_goal(state)
        self._pose(self._require_goal())
        self.model.geom("target").pos[:2] = self._canvas.geom("finger").xpos[:2]

    def _build(self) -> None:
        if self._compiled is None or any(not np.array_equal(self._compiled[k], v) for k, v in self.variation.items()):
            model = compile_model(self.variation)
            self._adopt(model, mujoco.MjData(model))
            mujoco.mj_forward(model, self.data)
            self._compiled = self.variation

    def _sample_task(self) -> tuple[np.ndarray, np.ndarray]:
        start = goal = self._sample_pose()
        while self.reached(start[None], goal[None])[0]:
            goal = self._sample_pose()
        return start, goal

    def _sample_pose(self) -> np.ndarray:
        # As the suite does: a bounded joint within its bounds, a free hinge within one turn, at rest.
        shoulder = self.np_random.uniform(-np.pi, np.pi)
        wrist = self.np_random.uniform(*self.model.joint("wrist").range)
        return np.array([shoulder, wrist, 0.0, 0.0])

    def _set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = state[:2], state[2:]
        mujoco.mj_forward(self.model, self.data)
        self._score = 0.0

    def _advance(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = action
        self._score = 0.0
        outside = not self.is_success()
        for _ in range(ACTION_REPEAT):
            # The suite's order: integrate, then bring positions up to date, so that nothing read below lags behind.
            mujoco.mj_step2(self.model, self.data)
            mujoco.mj_step1(self.model, self.data)
            self._score += float(np.linalg.norm(self._to_target()) <= TARGET_RADIUS + self.model.geom("finger").size[0])
            if outside and self.is_success():
                break

    def _to_target(self) -> np.ndarray:
        return self.model.geom("target").pos[:2] - self.data.geom("finger").xpos[:2]

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self._to_target(), self.data.qvel], dtype=np.float32)

    def _reward(self) -> float:
        return self._score

    def _more_info(self) -> dict[str, Any]:
        return {
            "finger_pos": self.data.geom("finger").xpos[:2].copy(),
            "target_pos": self.model.geom("target").pos[:2].copy(),
        }


def variation_space() -> VariationSpace:
    """Reacher's factors of variation; a reset resamples none of them by default."""
    return VariationSpace(
        {
            "agent.color": Uniform(initial=np.array([0.7, 0.5, 0.3]), low=0.0, high=1.0),
            "agent.arm_density": Uniform(initial=1000.0, low=500.0, high=1500.0),
            "agent.finger_density": Uniform(initial=1000.0, low=500.0, high=1500.0),
            "floor.color": Uniform(initial=np.array([[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]]), low=0.0, high=1.0),
            "target.color": Uniform(initial=np.array([0.6, 0.3, 0.3]), low=0.0, high=1.0),
            "target.shape": Integers(initial=SPHERE, low=BOX, high=SPHERE),
            "rendering.render_target": Integers(initial=0, low=0, high=1),
            "light.intensity": Uniform(initial=0.7, low=0.0, high=1.0),
        }
    )


def compile_model(values: dict[str, Any]) -> mujoco.MjModel:
    """dm_control's reacher with the given values of the factors of variation."""
    xml, assets = suite.get_model_and_assets()
    included = {name.removeprefix("./"): content for name, content in assets.items()}
    spec = mujoco.MjSpec.from_string(xml.decode(), include=included)
    spec.material("self").rgba[:3] = values["agent.color"]
    spec.geom("arm").density = values["agent.arm_density"]
    spec.geom("finger").density = values["agent.finger_density"]
    spec.texture("grid").rgb1, spec.texture("grid").rgb2 = values["floor.color"]
    spec.material("target").rgba = [*values["target.color"], values["rendering.render_target"]]
    spec.geom("target").type = SHAPES[values["target.shape"]]
    spec.geom("target").size = [TARGET_RADIUS] * 3
    spec.light("light").diffuse = [values["light.intensity"]] * 3
    return spec.compile()
