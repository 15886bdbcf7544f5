"""PushT: a round pusher moves a T-shaped block on a plane, both to a goal pose. Quasi-static physics on pymunk.

Rebuilt from the reference implementation (stable-worldmodel 0.1.1) and equal to it step for step.
"""

import atexit
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import numpy as np
import pymunk
from gymnasium.spaces import Box

from ..goal_env import GoalEnv
from ..measurable import Events, Target, circle, draw_until, far_from
from .drawing import WALL_RADIUS, WALLS, Figure, as_color, draw_scene
from .shapes import CIRCLE, SHAPES, extent
from .variation import TASK_FACTORS, variation_space

SUBSTEPS = 10
SUBSTEP_SECONDS = 0.01
ACTION_SCALE = 100.0
POSITION_GAIN, VELOCITY_GAIN = 100, 20
POSITION_TOLERANCE = 20.0
ANGLE_TOLERANCE = np.pi / 9
TELEPORT = 100.0
DRAWN_GOALS = ("fixed", "scored")

# Environments whose engine exists. One that outlives the interpreter's modules complains on the way out, so that those
# that nobody closed are closed before.
_BUILT: WeakSet["PushTEnv"] = WeakSet()


@atexit.register
def _close_all() -> None:
    for env in list(_BUILT):
        PushTEnv.close(env)


class PushTEnv(GoalEnv):
    """Push the block, and bring the pusher, to a goal pose.

    State: pusher xy, block xy and block angle in [0, 2 pi), pusher velocity xy; pixels of a world of 512, radians,
    pixels per second. The block's position is the middle of the T's bar, on the far side of the stem. The observation
    is the state. The reward is minus the Euclidean distance of state and goal.

    Action: displacement of the pusher's target relative to its position, in units of 100 pixels, single precision,
    never clipped: expert data holds a few beyond [-1, 1]. A critically damped controller follows the target for
    10 physics substeps (0.1 s) and covers 30 % of the way from rest, 41 % in steady motion.

    Success: the 4-vector of pusher xy and block xy lies within 20 px of the goal's and the block's angle within
    20 degrees, modulo the shape's symmetry (a full turn for the T).

    The block's own velocity is no part of the state; it lives during contact only. `set_state` finds it again by taking
    the last substep once more, from the pusher's position 0.01 s earlier: a steady push continues as if never
    interrupted, a block jammed between pusher and wall nearly so. The same state always continues in the same way.

    The goal T is drawn where the factors `goal.position` and `goal.angle` say, by default in the center and unrelated
    to the goal that is scored: every training image of the released weights shows it there.

    Args:
        image_size: side of the picture in pixels; drawn on a canvas of 512 (or a multiple) and resized bilinearly.
        render_mode: `"rgb_array"`.
        compat: `False` (default): `set_state` restores the state exactly, and a reset draws starts and goals with the
            block inside the walls and the pusher beside the block. `True`: as in the reference, `set_state` moves on by
            one physics substep, in which the pusher covers 0.01 s of its velocity (a pixel or two; from rest both
            modes are equal), and a reset draws positions independently: bodies may overlap. Choose it to compare
            with published figures of the released weights. (In the reference the block also keeps a velocity from
            contacts of the unseeded reset before; that cannot be reproduced and is left out.)
        drawn_goal: `"fixed"` draws the goal T as above; `"scored"` draws it at the goal that is scored, for people and
            for newly trained models.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    state_names = ("agent_x", "agent_y", "block_x", "block_y", "block_angle", "agent_vx", "agent_vy")
    success_rule = (
        f"|(pusher xy, block xy) - goal| < {POSITION_TOLERANCE:g} px and "
        f"|block angle - goal| < {np.rad2deg(ANGLE_TOLERANCE):.0f} degrees"
    )
    velocities = slice(5, 7)
    distance_unit = "tolerances: positions in 20 px, block angle in 20 degrees"
    probe_targets = (
        Target("agent position", "px"),
        Target("block position", "px"),
        Target("block angle"),
        Target("agent velocity", "px/s", moving=True),
        Target("block velocity", "px/step", moving=True),
    )
    events = Events("weak", 80, "block.color", "the block", f"agent and block, by at least {TELEPORT:g} px each")

    # The engine's objects, gone once the environment is closed.
    _space: pymunk.Space
    _agent: pymunk.Body
    _block: pymunk.Body

    def __init__(
        self,
        *,
        image_size: int = 224,
        render_mode: str | None = "rgb_array",
        compat: bool = False,
        drawn_goal: str = "fixed",
    ):
        if drawn_goal not in DRAWN_GOALS:
            raise ValueError(f"drawn_goal={drawn_goal!r} is unknown: use one of {', '.join(DRAWN_GOALS)}")
        super().__init__(variation_space(compat), image_size=image_size, render_mode=render_mode, compat=compat)
        self.drawn_goal = drawn_goal
        low = np.array([-np.inf, -np.inf, -np.inf, -np.inf, 0.0, -np.inf, -np.inf])
        high = np.array([np.inf, np.inf, np.inf, np.inf, 2 * np.pi, np.inf, np.inf])
        self.observation_space = Box(low, high, dtype=np.float64)
        self.action_space = Box(-1.0, 1.0, (2,), dtype=np.float32)
        self._build()
        self._set_state(_start_state(self.variation))

    # States and goals

    def get_state(self) -> np.ndarray:
        return self._state.copy()

    def check_state(self, state: np.ndarray, name: str = "state") -> np.ndarray:
        vector = super().check_state(state, name)
        vector[4] = _wrap(vector[4])
        return vector

    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        near = np.linalg.norm(states[:, :4] - goals[:, :4], axis=1) < POSITION_TOLERANCE
        return near & (self._angle_error(states, goals) < ANGLE_TOLERANCE)

    def distance(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        position = np.linalg.norm(states[:, :4] - goals[:, :4], axis=1) / POSITION_TOLERANCE
        symmetry = SHAPES[self.variation["block.shape"]].symmetry
        angle = np.abs((states[:, 4] - goals[:, 4] + symmetry / 2) % symmetry - symmetry / 2) / ANGLE_TOLERANCE
        return np.hypot(position, angle)

    def probe_values(self, states: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "agent position": states[:, 0:2],
            "block position": states[:, 2:4],
            "block angle": circle(states[:, 4]),
            "agent velocity": states[:, 5:7],
            "block velocity": states[:, 2:4] - previous[:, 2:4],
        }

    def teleport(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        names, angle = ["block.start_position", "agent.start_position"], {"block.angle": state[4]}

        def draw() -> np.ndarray:
            values = self.variation_space.sample(rng, names, angle)
            return np.concatenate([values["agent.start_position"], values["block.start_position"], state[4:]])

        def accept(new: np.ndarray) -> bool:
            return all(far_from(state[part], TELEPORT)(new[part]) for part in (slice(0, 2), slice(2, 4)))

        return draw_until(draw, accept, "positions of agent and block")

    def _angle_error(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        symmetry = SHAPES[self.variation["block.shape"]].symmetry
        error = np.abs(states[:, 4] - goals[:, 4]) % symmetry
        return np.minimum(error, symmetry - error)

    def _reward(self) -> float:
        return -float(np.linalg.norm(self._state - self._require_goal()))

    def _more_info(self) -> dict[str, Any]:
        return {"proprio": self._state[[0, 1, 5, 6]]}

    def _observe(self) -> np.ndarray:
        return self._state.copy()

    def _sample_task(self) -> tuple[np.ndarray, np.ndarray]:
        scene = {name: value for name, value in self.variation.items() if name not in TASK_FACTORS}
        goal = self.variation_space.sample(self.np_random, TASK_FACTORS, scene)
        return _start_state(self.variation), _start_state(goal)

    def close(self) -> None:
        self._space = self._agent = self._block = None

    # Physics

    def _build(self) -> None:
        """A new world: nothing of earlier contacts survives in the engine's caches."""
        look = self.variation
        _BUILT.add(self)
        space = pymunk.Space()
        space.gravity = 0, 0
        # No velocity survives a substep: bodies move only while something pushes them.
        space.damping = 0
        space.add(*(pymunk.Segment(space.static_body, start, end, WALL_RADIUS) for start, end in WALLS))
        self._space = space
        self._agent, agent_shapes = _make_body(look["agent.shape"], look["agent.scale"])
        self._block, block_shapes = _make_body(look["block.shape"], look["block.scale"])
        space.add(self._agent, *agent_shapes, self._block, *block_shapes)

    def _set_state(self, state: np.ndarray) -> None:
        self._build()
        agent, block = self._agent, self._block
        x, y, block_x, block_y, block_angle, vx, vy = state.tolist()
        # The substep that led here is taken again: it brings back the block's velocity and the engine's contacts.
        lead = 0.0 if self.compat else SUBSTEP_SECONDS
        if self.variation["agent.shape"] != CIRCLE:
            agent.angle = self.variation["agent.angle"]
        agent.velocity = vx, vy
        agent.position = x - lead * vx, y - lead * vy
        # Turning happens about the center of gravity and moves the origin: the position has to come last.
        block.angle = block_angle
        block.position = block_x, block_y
        self._space.step(SUBSTEP_SECONDS)
        if self.compat:
            self._read_state()
            return
        if self.variation["agent.shape"] != CIRCLE:
            agent.angle = self.variation["agent.angle"]
        agent.velocity = vx, vy
        agent.position = x, y
        self._state = state.copy()

    def _advance(self, action: np.ndarray) -> None:
        agent, space = self._agent, self._space
        # Single precision throughout, as the reference computes with the actions of its policies.
        dx, dy = action.astype(np.float32)
        x, y = agent.position
        target_x, target_y = (
            np.float32(x) + dx * np.float32(ACTION_SCALE),
            np.float32(y) + dy * np.float32(ACTION_SCALE),
        )
        for _ in range(SUBSTEPS):
            x, y = agent.position
            vx, vy = agent.velocity
            ax = POSITION_GAIN * (target_x - np.float32(x)) - np.float32(VELOCITY_GAIN * vx)
            ay = POSITION_GAIN * (target_y - np.float32(y)) - np.float32(VELOCITY_GAIN * vy)
            step = np.float32(SUBSTEP_SECONDS)
            agent.velocity = float(np.float32(vx) + ax * step), float(np.float32(vy) + ay * step)
            space.step(SUBSTEP_SECONDS)
        self._read_state()

    def _read_state(self) -> None:
        agent, block = self._agent, self._block
        angle = _wrap(block.angle)
        self._state = np.array([*agent.position, *block.position, angle, *agent.velocity], dtype=np.float64)

    # Pictures

    def _draw(self) -> np.ndarray:
        return self._picture(self._state, self._agent.angle)

    def _draw_state(self, state: np.ndarray) -> np.ndarray:
        # The picture is a function of the state: the world need not move.
        return self._picture(state, self.variation["agent.angle"])

    def _picture(self, state: np.ndarray, agent_angle: float) -> np.ndarray:
        look = self.variation
        block = Figure(look["block.shape"], look["block.scale"], state[2:5], as_color(look["block.color"]))
        agent_pose = np.array([state[0], state[1], agent_angle])
        agent = Figure(look["agent.shape"], look["agent.scale"], agent_pose, as_color(look["agent.color"]))
        goal = None
        if look["rendering.render_goal"]:
            fixed = np.array([*look["goal.position"], look["goal.angle"]])
            pose = self._require_goal()[2:5] if self.drawn_goal == "scored" else fixed
            goal = Figure(block.shape, block.scale, pose, as_color(look["goal.color"]))
        return draw_scene(as_color(look["background.color"]), goal, block, agent, self.image_size)


def _make_body(shape: str, scale: float) -> tuple[pymunk.Body, list[pymunk.Shape]]:
    if shape == CIRCLE:
        # Kinematic: nothing holds it back, neither the block nor the walls.
        body = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        return body, [pymunk.Circle(body, extent(shape, scale))]
    body = pymunk.Body(1, SHAPES[shape].inertia(scale))
    body.center_of_gravity = tuple(SHAPES[shape].center_of_gravity(scale).tolist())
    return body, [pymunk.Poly(body, corners.tolist()) for corners in SHAPES[shape].corners(scale)]


def _wrap(angle: float) -> float:
    # A tiny negative angle rounds to a full turn the first time.
    return angle % (2 * np.pi) % (2 * np.pi)


def _start_state(values: Mapping[str, Any]) -> np.ndarray:
    position, block_position = values["agent.start_position"], values["block.start_position"]
    angle = _wrap(values["block.angle"])
    return np.array([*position, *block_position, angle, *values["agent.velocity"]], dtype=np.float64)
