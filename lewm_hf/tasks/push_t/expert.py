"""PushT's collectors: an expert that solves the task, and the reference's weak policy for comparison.

The expert plans a push (`push_t_plan`) with a fast model of the contacts (`push_t_model`), walks around the block to
the contact (`push_t_route`), pushes towards the planned pose with feedback, and plans again until the block is in
place; then it walks to the pusher's own goal.
"""

from typing import Any

import numpy as np

from .block_model import BlockModel, Pose
from .env import ACTION_SCALE
from .push_planner import Push, PushPlanner, Tolerance
from .route import LINE_GAP

# The block is in place within these errors; half as much after every walk to the goal in vain, down to MIN_STRICTNESS.
PLACE_TOLERANCE, TURN_TOLERANCE, MIN_STRICTNESS = 8.0, np.deg2rad(8.0), 0.25
# Control: how far ahead the pusher's target is (it covers about 41 % of that in a step), and when a point is reached.
WALK_AHEAD, PUSH_AHEAD, ARRIVAL_GAIN = 30.0, 22.0, 2.4
WAYPOINT_REACHED, CONTACT_REACHED, PUSH_REACHED = 9.0, 3.5, 2.5
# Feedback while pushing: directions tried, their length, and steps between two looks.
STEERING, STEERING_STEP, STEERING_EXTRA = np.linspace(-0.6, 0.6, 9), 3.0, 12.0
STEPS_BETWEEN_LOOKS = 3
MIN_GAIN = 0.5
# Plans tried within one step.
DECISIONS = 3
WEAK_REACH = 100.0


class PushTExpert:
    """Moves block and pusher to their goal.

    Args:
        noise: largest standard deviation of the Gaussian noise on actions, per dimension and in action units; every
            episode draws its level uniformly from [0, noise], so that data of every quality come together.
        speed: factor on the walking and pushing speed.
        pace_spread: every episode multiplies `speed` by a factor drawn from [1 - pace_spread, 1 + pace_spread].

    Raises:
        ValueError: for a negative noise, a speed outside (0, 3] or a spread outside [0, 1); at `reset`, for a pusher
            that is not round.
    """

    def __init__(self, noise: float = 0.1, speed: float = 1.0, pace_spread: float = 0.2):
        if not noise >= 0:
            raise ValueError(f"noise={noise} must be 0 or more")
        if not 0 < speed <= 3:
            raise ValueError(f"speed={speed} must lie in (0, 3]")
        if not 0 <= pace_spread < 1:
            raise ValueError(f"pace_spread={pace_spread} must lie in [0, 1)")
        self.noise, self.speed, self.pace_spread = noise, speed, pace_spread

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        self._rng = rng
        self._noise = rng.uniform(0.0, self.noise)
        self._pace = self.speed * rng.uniform(1 - self.pace_spread, 1 + self.pace_spread)
        self._planner = PushPlanner(BlockModel(env.unwrapped.variation))
        self._way: list[complex] = []
        self._push: Push | None = None
        self._end: complex | None = None
        self._steps_to_look = 0
        self._parking = False
        self._strictness = 1.0

    def act(self, env: Any) -> np.ndarray:
        env = env.unwrapped
        state, goal = env.get_state(), env.goal_state
        target, ahead = self._target(state, goal)
        command = (target - complex(*state[:2])) * ARRIVAL_GAIN
        limit = ahead * self._pace
        if abs(command) > limit:
            command *= limit / abs(command)
        noise = self._rng.normal(0.0, self._noise, 2)
        return (np.array([command.real, command.imag]) / ACTION_SCALE + noise).astype(np.float32)

    def _target(self, state: np.ndarray, goal_state: np.ndarray) -> tuple[complex, float]:
        """The point of the world to move to, and how far ahead to aim."""
        model = self._planner.model
        pusher, pose, goal = complex(*state[:2]), model.pose(state), model.pose(goal_state)
        for _ in range(DECISIONS):
            while self._way:
                if abs(self._way[0] - pusher) >= (CONTACT_REACHED if len(self._way) == 1 else WAYPOINT_REACHED):
                    return self._way[0], WALK_AHEAD
                self._way.pop(0)
            if self._push is not None:
                self._look(self._push, pusher, pose)
                if self._end is not None:
                    return self._end, PUSH_AHEAD
            self._decide(pusher, pose, complex(*goal_state[:2]), goal)
        # No plan got under way: another position may offer one.
        return pusher + WALK_AHEAD * np.exp(1j * self._rng.uniform(0, 2 * np.pi)), WALK_AHEAD

    def _look(self, push: Push, pusher: complex, pose: Pose) -> None:
        """Aims the push at its subgoal again; where it leads no closer, the push is over."""
        arrived = self._end is not None and abs(self._end - pusher) < PUSH_REACHED
        if self._end is not None and self._steps_to_look > 0 and not arrived:
            self._steps_to_look -= 1
            return
        self._steps_to_look = STEPS_BETWEEN_LOOKS - 1
        model, count = self._planner.model, len(STEERING)
        directions = push.direction * np.exp(1j * STEERING)
        steps = int(np.ceil((push.length + STEERING_EXTRA) / STEERING_STEP))
        poses = model.push(pose.repeat(count), np.full(count, pusher), directions, steps, STEERING_STEP)
        errors = model.distance(poses, push.subgoal)
        step, way = np.unravel_index(errors.argmin(), errors.shape)
        if errors[0, 0] - errors[step, way] < MIN_GAIN:
            self._push = self._end = None
        else:
            self._end = pusher + directions[way] * step * STEERING_STEP

    def _decide(self, pusher: complex, pose: Pose, pusher_goal: complex, goal: Pose) -> None:
        """Another push, or the walk to the pusher's goal if the block is in place."""
        if self._parking:
            self._strictness = max(self._strictness / 2, MIN_STRICTNESS)
        tolerance = Tolerance(PLACE_TOLERANCE * self._strictness, TURN_TOLERANCE * self._strictness)
        in_place = bool(tolerance.holds(self._planner.model, pose, goal))
        if in_place and not (self._parking and self._strictness == MIN_STRICTNESS):
            self._parking = True
            self._way = self._way_to_goal(pusher, pose, pusher_goal)
            return
        self._parking = False
        self._push = self._planner.plan(pusher, pose, pusher_goal, goal, tolerance, self._rng)
        self._way = list(self._push.way)

    def _way_to_goal(self, pusher: complex, pose: Pose, pusher_goal: complex) -> list[complex]:
        # A goal inside the block is approached as closely as the block allows.
        model = self._planner.model
        beside = model.leave(complex(model.to_body(pusher_goal, pose)), model.radius + 0.5)
        free = model.leave(beside, model.radius + LINE_GAP + 0.5)
        way = self._planner.roads.survey(pose, pusher).way(complex(model.to_world(free, pose)))
        return [*way, complex(model.to_world(beside, pose))]


class PushTWeakPolicy:
    """The reference's shipped collector: random targets near the block, no goal.

    Draws a target from the square of +-100 px around the pusher and clips it to the square of +-100 px around the
    block. Models trained on it plan far worse than those trained on expert episodes.
    """

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, env: Any) -> np.ndarray:
        state = env.unwrapped.get_state()
        target = state[:2] + ACTION_SCALE * self._rng.uniform(-1.0, 1.0, 2)
        target = np.clip(target, state[2:4] - WEAK_REACH, state[2:4] + WEAK_REACH)
        return np.clip((target - state[:2]) / ACTION_SCALE, -1.0, 1.0).astype(np.float32)
