"""Cube: a robot arm must bring a cube to a place on a table (`lewm/Cube-v0`), on OGBench's single-cube scene."""

import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces

from ..mujoco_backend import mujoco_import
from ..mujoco_env import MujocoGoalEnv
from ..variation import Uniform, VariationSpace
from . import measurements

with mujoco_import("cube"):
    import mujoco
    from ogbench.manipspace import lie
    from ogbench.manipspace.envs.cube_env import CubeEnv as OGBenchCubeEnv

SUCCESS_DISTANCE = 0.04
OBJECT_LOW, OBJECT_HIGH = np.array([0.3, -0.3]), np.array([0.55, 0.3])
EFFECTOR_LOW, EFFECTOR_HIGH = np.array([0.25, -0.35, 0.20]), np.array([0.6, 0.35, 0.35])
CAMERA_AXES = (np.array([0.0, 1.0, 0.0]), np.array([-0.628, 0.001, 0.778]))
CUBE_XYZ, CUBE_QUATERNION = slice(14, 17), slice(17, 21)
TASK_FACTORS = ("cube.start_position", "cube.start_yaw", "cube.goal_position", "cube.goal_yaw")
POSE_FACTORS = (*TASK_FACTORS, "agent.ee_start_position")
GRIPPER_JOINTS = ("driver", "coupler", "spring_link", "follower")
JOINTS = (
    *("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3"),
    *(f"{side}_{joint}" for side in ("right", "left") for joint in GRIPPER_JOINTS),
)


class CubeEnv(MujocoGoalEnv):
    """Bring the cube's center within 4 cm of the goal's.

    State (41): qpos (6 arm joints, 8 gripper joints in rad; cube position in m and quaternion wxyz), then qvel.
    Action: `Box(-1, 1, (5,))`, single precision: effector displacement in units of 5 cm, yaw of 0.3 rad, gripper
    opening (positive closes), relative to the current pose; 0.05 s each. Observation (28, float32): OGBench's.
    The reward is 1 on success, else 0.

    Success: |cube position - goal's cube position| <= 0.04 m, whatever the orientation and the grasp. `info` has
    `cube_distance` in m and `cube_angle`, the rotation between the two in rad, for stricter rules.

    A picture depends on the state alone. All randomness comes from the reset's seed.

    Args:
        image_size: side of the pictures, drawn at that size.
        render_mode: `"rgb_array"`.
        compat: as in the reference, draw the poses that OGBench has computed last, which lag 0.002 s behind the state
            after a step, and let goals be sampled within 4 cm of the start.
        render_quality: `"reference"` looks like the released data; `"fast"` has no shadows and no multisampling.

    Raises:
        ValueError: for an unknown `render_quality` or `render_mode`, or an impossible `image_size`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    state_names = (
        *JOINTS,
        *(f"cube_{name}" for name in ("x", "y", "z", "qw", "qx", "qy", "qz")),
        *(f"{joint}_velocity" for joint in JOINTS),
        *(f"cube_{name}" for name in ("vx", "vy", "vz", "wx", "wy", "wz")),
    )
    success_rule = f"|cube xyz - goal| <= {SUCCESS_DISTANCE:g} m"
    velocities = slice(21, 41)
    distance_unit = "m, of the cube"
    probe_targets = measurements.PROBE_TARGETS
    events = measurements.EVENTS
    camera = "front_pixels"
    effector_bounds = EFFECTOR_LOW, EFFECTOR_HIGH

    def __init__(
        self,
        image_size: int = 224,
        render_mode: str | None = "rgb_array",
        compat: bool = False,
        render_quality: str = "reference",
    ):
        self._ogbench: _Simulator | None = None
        self.observation_space = spaces.Box(-np.inf, np.inf, (28,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (5,), dtype=np.float32)
        super().__init__(
            variation_space(compat),
            render_quality=render_quality,
            image_size=image_size,
            render_mode=render_mode,
            compat=compat,
        )

    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        difference = np.asarray(states, dtype=np.float64)[..., CUBE_XYZ] - np.asarray(goals)[..., CUBE_XYZ]
        return np.linalg.norm(difference, axis=-1) <= SUCCESS_DISTANCE

    def distance(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return np.linalg.norm(states[:, CUBE_XYZ] - goals[:, CUBE_XYZ], axis=1)

    def probe_values(self, states: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
        return measurements.probe_values(self, states, previous)

    def teleport(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return measurements.teleport(self, state, rng)

    def set_goal(self, state: np.ndarray) -> None:
        super().set_goal(state)
        self._place_target()

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        """A goal state from the factors' ranges: the cube anywhere, the effector at its start position."""
        space = self.variation_space.factors
        return self._pose_arm_and_cube(rng, space["cube.goal_position"].draw(rng), space["cube.goal_yaw"].draw(rng))

    def oracle_info(self) -> dict[str, Any]:
        """What OGBench's oracles look at: `proprio/*`, `privileged/block_0_*` and `privileged/target_*`."""
        # What came before a step may be another environment's here.
        info = self._simulator.compute_ob_info()
        return {name: value for name, value in info.items() if not name.startswith("prev_")}

    @property
    def _simulator(self) -> "_Simulator":
        """OGBench's environment, at work on this environment's data."""
        assert self._ogbench is not None, "what `_build` makes"
        self._ogbench.work_on(self.data)
        return self._ogbench

    def _build(self) -> None:
        look = {name: value for name, value in self.variation.items() if name not in POSE_FACTORS}
        if self._ogbench is not None and _equal(look, self._ogbench.look):
            return
        plain = _plain_simulator(threading.get_ident())
        if _equal(look, plain.look):
            self._ogbench = plain
        else:
            if self._ogbench in (None, plain):
                self._ogbench = _Simulator()
            self._ogbench.compile(look)
        self._adopt(self._ogbench.model, mujoco.MjData(self._ogbench.model))

    def _sample_task(self) -> tuple[np.ndarray, np.ndarray]:
        values = self.variation
        start = self._pose_arm_and_cube(self.np_random, values["cube.start_position"], values["cube.start_yaw"])
        goal = self._pose_arm_and_cube(self.np_random, values["cube.goal_position"], values["cube.goal_yaw"])
        return start, goal

    def _pose_arm_and_cube(self, rng: np.random.Generator, xy: np.ndarray, yaw: float) -> np.ndarray:
        """State at rest: the cube on the floor, the effector above it all at a random yaw, the gripper open."""
        state = np.zeros(len(self.state_names))
        arm_yaw = rng.uniform(-np.pi, np.pi)
        state[:6] = self._simulator.arm_joints(self.variation["agent.ee_start_position"], arm_yaw)
        state[CUBE_XYZ] = (*xy, self.variation["cube.size"])
        state[CUBE_QUATERNION] = lie.SO3.from_z_radians(yaw).wxyz
        return state

    def _set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = state[: self.model.nq], state[self.model.nq :]
        self._place_target()
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_rnePostConstraint(self.model, self.data)  # contact forces: the observation tells whether it grasps
        self._simulator.pre_step()

    def _place_target(self) -> None:
        """The oracle and OGBench's info read the goal off the invisible target."""
        if self._goal is not None:
            self.data.mocap_pos[0], self.data.mocap_quat[0] = self._goal[CUBE_XYZ], self._goal[CUBE_QUATERNION]

    def _advance(self, action: np.ndarray) -> None:
        # Single precision as in the recorded data: OGBench computes with the action as it comes.
        self._simulator.step(action.astype(np.float32))

    def _posed(self, goal: bool = False) -> Any:
        return self.data if self.compat and not goal else super()._posed(goal)

    def _observe(self) -> np.ndarray:
        return self._simulator.compute_observation().astype(np.float32)

    def _reward(self) -> float:
        return float(self.is_success())

    def _more_info(self) -> dict[str, Any]:
        state, goal = self.get_state(), self._require_goal()
        cosine = abs(np.dot(state[CUBE_QUATERNION], goal[CUBE_QUATERNION]))
        return {
            **self.oracle_info(),
            "cube_distance": float(np.linalg.norm(state[CUBE_XYZ] - goal[CUBE_XYZ])),
            "cube_angle": float(2 * np.arccos(min(cosine, 1.0))),
        }


class _Simulator(OGBenchCubeEnv):
    """OGBench's environment as robot, scene and controller. Resets and tasks are ours, and so are the data."""

    def __init__(self) -> None:
        super().__init__("single", mode="data_collection", visualize_info=False)
        self.look: dict[str, Any] = {}

    def compile(self, look: Mapping[str, Any]) -> None:
        """Builds the model with these values of the factors of variation that show."""
        self.look = dict(look)
        self._cube_colors[0, :3] = look["cube.color"]
        self.mark_dirty()
        self.reset(seed=0)  # draws a start that nobody uses

    def work_on(self, data: mujoco.MjData) -> None:
        self._data = data

    def modify_mjcf_model(self, mjcf_model: Any) -> Any:
        look = self.look
        for name in ("ur5e/robotiq/black", "ur5e/robotiq/pad_gray"):
            mjcf_model.find("material", name).rgba = [*look["agent.color"], 1.0]
        for geom in (*self._cube_geoms_list[0], *self._cube_target_geoms_list[0]):
            # The reference's size passes through single precision: its cube is 0.4 nm smaller than 2 cm.
            geom.size = [float(np.float32(look["cube.size"]))] * 3
        grid = mjcf_model.find("texture", "grid")
        grid.rgb1, grid.rgb2 = look["floor.color"]
        mjcf_model.find("camera", CubeEnv.camera).xyaxes = camera_axes(look["camera.angle_delta"])
        mjcf_model.find("light", "global").diffuse = [look["light.intensity"]] * 3
        return mjcf_model

    def arm_joints(self, position: np.ndarray, yaw: float) -> np.ndarray:
        """Joint angles (6,) that hold the effector at `position` (3,), pointing down, turned by `yaw` rad."""
        rotation = lie.SO3.from_z_radians(yaw) @ self._effector_down_rotation
        effector = lie.SE3.from_rotation_and_translation(rotation, np.asarray(position)) @ self._T_pa
        flange, quaternion = effector.translation(), effector.rotation().wxyz
        return self._ik.solve(pos=flange, quat=quaternion, curr_qpos=self._home_qpos)


@lru_cache(maxsize=1)
def _plain_simulator(thread: int) -> _Simulator:
    """The look without variation, compiled once per thread: such environments differ in their data alone, and each
    model takes a second and 200 MB."""
    simulator = _Simulator()
    initial = variation_space().initial_values()
    simulator.compile({name: value for name, value in initial.items() if name not in POSE_FACTORS})
    return simulator


def _equal(look: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(np.array_equal(look[name], other[name]) for name in look)


def camera_axes(angle_delta: np.ndarray) -> np.ndarray:
    """The camera's x and y axes (6,) after a turn by (yaw, pitch) degrees about the world's z, then x axis."""
    (yaw_cos, pitch_cos), (yaw_sin, pitch_sin) = np.cos(np.deg2rad(angle_delta)), np.sin(np.deg2rad(angle_delta))
    turn = np.array([[yaw_cos, -yaw_sin, 0], [yaw_sin, yaw_cos, 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, pitch_cos, -pitch_sin], [0, pitch_sin, pitch_cos]])
    return np.concatenate([tilt @ turn @ axis for axis in CAMERA_AXES])


def variation_space(compat: bool = False) -> VariationSpace:
    """Cube's factors of variation; a reset resamples the cube's start and goal by default."""

    def apart(goal: np.ndarray, values: Mapping[str, Any]) -> bool:
        return bool(np.linalg.norm(goal - values["cube.start_position"]) > SUCCESS_DISTANCE)

    return VariationSpace(
        {
            "cube.color": Uniform(initial=np.array([0.96, 0.26, 0.33]), low=0.0, high=1.0),
            "cube.size": Uniform(initial=0.02, low=0.01, high=0.03),
            "cube.start_position": Uniform(initial=np.array([0.3, 0.0]), low=OBJECT_LOW, high=OBJECT_HIGH),
            "cube.start_yaw": Uniform(initial=0.0, low=0.0, high=2 * np.pi),
            "cube.goal_position": Uniform(
                initial=np.array([0.3, 0.0]),
                low=OBJECT_LOW,
                high=OBJECT_HIGH,
                constraint=None if compat else apart,
                rule=f"more than {SUCCESS_DISTANCE} m from cube.start_position",
            ),
            "cube.goal_yaw": Uniform(initial=0.0, low=0.0, high=2 * np.pi),
            "agent.color": Uniform(initial=np.array([0.61, 0.28, 0.82]), low=0.0, high=1.0),
            "agent.ee_start_position": Uniform(
                initial=(EFFECTOR_LOW + EFFECTOR_HIGH) / 2, low=EFFECTOR_LOW, high=EFFECTOR_HIGH
            ),
            "floor.color": Uniform(initial=np.array([[0.08, 0.11, 0.16], [0.15, 0.18, 0.25]]), low=0.0, high=1.0),
            "camera.angle_delta": Uniform(initial=np.zeros(2), low=-10.0, high=10.0),
            "light.intensity": Uniform(initial=0.7, low=0.0, high=1.0),
        },
        default=TASK_FACTORS,
    )
