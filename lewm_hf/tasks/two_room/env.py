"""TwoRoom: a disk must reach a point in the other room through a door (`lewm/TwoRoom-v0`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from ..goal_env import GoalEnv
from ..measurable import Events, Target, draw_until, far_from
from .drawing import Scene
from .swept import sweep_all
from .world import BORDER, CANVAS, MAX_DOORS, SUCCESS_DISTANCE, WALL_CENTER, Layout, move, move_all, variation_space

PHYSICS = ("reference", "swept")
TELEPORT = 50.0


class TwoRoomEnv(GoalEnv):
    """Two rooms, a wall with doors, an agent that moves without inertia.

    State: agent x, y in pixels of a 224 x 224 canvas. Action: `Box(-1, 1, (2,))`, clamped; 5 px per step at 1.
    Observation (10, float32): agent xy, goal xy, three door centers xy (zeros for absent doors).
    Success: the agent is closer than 16 px to the goal. The reward is always 0.

    Args:
        image_size: side of the pictures; 224 equals the reference pixel for pixel.
        render_mode: `"rgb_array"`.
        compat: sample targets as the reference does today, in the agent's room and in the wall too. By default they
            lie in the other room, clear of the wall, at least `task.min_steps` (25) steps away.
        physics: `"reference"` tests only the end point of a step and only the disk's center against doors, as in the
            data of the released weights; `"swept"` keeps the whole disk out of the wall all along its way.

    Raises:
        ValueError: for an unknown `physics`, `render_mode` or an impossible `image_size`.
    """

    state_names = ("agent.x", "agent.y")
    success_rule = f"|agent - goal| < {SUCCESS_DISTANCE:g} px"
    distance_unit = "px, through the door where it is in the way"
    probe_targets = (Target("agent position", "px"), Target("agent velocity", "px/step", moving=True))
    events = Events("expert", 80, "agent.color", "the agent", f"the agent, by at least {TELEPORT:g} px")

    def __init__(
        self,
        image_size: int = CANVAS,
        render_mode: str | None = "rgb_array",
        compat: bool = False,
        physics: str = "reference",
    ):
        super().__init__(variation_space(compat), image_size=image_size, render_mode=render_mode, compat=compat)
        _check_physics(physics)
        self.physics = physics
        self.observation_space = spaces.Box(0.0, float(CANVAS), (4 + 2 * MAX_DOORS,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
        self._x, self._y = map(float, self.variation["agent.position"])
        self._build()

    def get_state(self) -> np.ndarray:
        return np.array([self._x, self._y])

    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        difference = np.asarray(states, dtype=np.float64) - goals
        return np.sqrt(np.square(difference).sum(-1)) < SUCCESS_DISTANCE

    def distance(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        states, goals = np.asarray(states, dtype=np.float64), np.asarray(goals, dtype=np.float64)
        across = self.layout.across
        same = (states[:, across] < WALL_CENTER) == (goals[:, across] < WALL_CENTER)
        around = [
            0.0 if alike else self.layout.path_length(state, goal)
            for alike, state, goal in zip(same, states, goals, strict=True)
        ]
        return np.where(same, np.linalg.norm(states - goals, axis=1), around)

    def probe_values(self, states: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
        return {"agent position": states, "agent velocity": states - previous}

    def teleport(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        def draw() -> np.ndarray:
            return self.variation_space.sample(rng, ["agent.position"])["agent.position"]

        return draw_until(draw, far_from(state, TELEPORT), "agent position")

    def crosses(self, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return self.room(starts) * self.room(goals) == -1

    def room(self, positions: np.ndarray) -> np.ndarray:
        """The room of each position `(n, 2)`: -1 left or above, 1 right or below, 0 where the disk touches a wall.

        The passage belongs to no room. Goals at the border of the canvas count as touching: an agent cannot get there.
        """
        layout = self.layout
        across = positions[:, layout.across] - WALL_CENTER
        inside = (positions >= BORDER + layout.radius) & (positions <= CANVAS - BORDER - layout.radius)
        free = inside.all(1) & (np.abs(across) > layout.half_thickness + layout.radius)
        return np.where(free, np.sign(across), 0).astype(int)

    def recorded(self, observation: np.ndarray) -> np.ndarray:
        # The observation contains the goal and the map; what the agent reports of itself is its position.
        return self.get_state()

    def draw_states(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return self.scene.draw(states, goals)

    @classmethod
    def render_batch(cls, envs: Sequence["TwoRoomEnv"], goals: bool = False) -> np.ndarray:
        scenes: dict[tuple, list[int]] = {}
        for index, env in enumerate(envs):
            scenes.setdefault(env.scene.key, []).append(index)
        if len({key[0] for key in scenes}) != 1:
            raise ValueError("environments of one picture size are needed, at least one")
        targets = np.stack([env.goal_state for env in envs])
        positions = targets if goals else np.stack([env.get_state() for env in envs])
        if len(scenes) == 1:
            return envs[0].scene.draw(positions, targets)
        images = np.empty((len(envs), *envs[0].scene.background.shape), dtype=np.uint8)
        for members in scenes.values():
            images[members] = envs[members[0]].scene.draw(positions[members], targets[members])
        return images

    def _build(self) -> None:
        self.layout = Layout.of(self.variation)
        self.scene = Scene(self.variation, self.image_size)
        self._doors = np.zeros((MAX_DOORS, 2), dtype=np.float32)
        for index, (center, _) in enumerate(self.layout.doors):
            self._doors[index] = self.layout.point(WALL_CENTER, center)

    def _sample_task(self) -> tuple[np.ndarray, np.ndarray]:
        return self.variation["agent.position"], self.variation["target.position"]

    def _set_state(self, state: np.ndarray) -> None:
        self._x, self._y = state.tolist()

    def _advance(self, action: np.ndarray) -> None:
        if self.physics == "reference":
            dx, dy = action.tolist()
            self._x, self._y = move(self._x, self._y, dx, dy, self.layout)
        else:
            self._set_state(sweep_all(self.get_state()[None], action[None], self.layout)[0])

    def _observe(self) -> np.ndarray:
        return np.array([self._x, self._y, *self._require_goal(), *self._doors.ravel()], dtype=np.float32)

    def _draw(self) -> np.ndarray:
        return self._draw_state(self.get_state())

    def _draw_state(self, state: np.ndarray) -> np.ndarray:
        return self.scene.draw(state[None], self._require_goal()[None])[0]

    def _more_info(self) -> dict[str, Any]:
        return {"distance_to_target": float(np.hypot(*(self.get_state() - self._require_goal())))}


def step_positions(
    positions: np.ndarray,
    actions: np.ndarray,
    variation: Mapping[str, Any] | None = None,
    physics: str = "reference",
) -> np.ndarray:
    """One step of many agents at once, equal to `TwoRoomEnv.step` bit for bit.

    Args:
        positions, actions: `(n, 2)`.
        variation: explicit values of factors of variation; all others have their initial value.
        physics: `"reference"` or `"swept"`.

    Returns:
        `(n, 2)` float64.

    Raises:
        ValueError: for other shapes, values that are not finite, an unknown factor or `physics`.
    """
    _check_physics(physics)
    positions, actions = _pairs(positions, "positions"), _pairs(actions, "actions")
    if len(positions) != len(actions):
        raise ValueError(f"{len(positions)} positions and {len(actions)} actions: give one action per position")
    advance = move_all if physics == "reference" else sweep_all
    return advance(positions, actions, Layout.of(variation_space(compat=True).resolve(variation)))


def render_positions(
    positions: np.ndarray,
    image_size: int = CANVAS,
    variation: Mapping[str, Any] | None = None,
    targets: np.ndarray | None = None,
) -> np.ndarray:
    """Pictures of many agent positions at once.

    Args:
        positions: `(n, 2)` in pixels of the 224 canvas.
        image_size: side of the pictures.
        variation: explicit values of factors of variation; all others have their initial value.
        targets: `(n, 2)`, drawn under the agents where `rendering.render_target` is 1; default: `target.position`.

    Returns:
        `(n, image_size, image_size, 3)` uint8.

    Raises:
        ValueError: for other shapes, values that are not finite or an unknown factor.
    """
    positions = _pairs(positions, "positions")
    values = variation_space(compat=True).resolve(variation)
    targets = np.broadcast_to(values["target.position"], positions.shape) if targets is None else targets
    targets = _pairs(targets, "targets")
    if len(targets) != len(positions):
        raise ValueError(f"{len(positions)} positions and {len(targets)} targets: give one target per position")
    return Scene(values, image_size).draw(positions, targets)


def _check_physics(physics: str) -> None:
    if physics not in PHYSICS:
        raise ValueError(f"physics={physics!r} is unknown: use one of {', '.join(PHYSICS)}")


def _pairs(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"{name} have shape {values.shape}, expected (n, 2)")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite: row {int(np.flatnonzero(~np.isfinite(values).all(1))[0])} is not")
    return values
