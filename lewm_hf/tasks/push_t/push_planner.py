"""Which push to make next in PushT: every contact in a few directions, the promising ones followed by a second push."""

from dataclasses import dataclass

import numpy as np

from .block_model import BlockModel, Pose
from .route import CONTACT_GAP, LINE_GAP, OUTSIDE_COST, Roads, outside
from .variation import INNER_HIGH, INNER_LOW

# Candidates: pixels between contacts, directions relative to the inward normal and their spread, length of pushes.
CONTACT_SPACING = 10.0
ANGLES, ANGLE_SPREAD = np.array([-0.5, 0.0, 0.5]), 0.2
PUSH_LENGTH, FIRST_STEP, SECOND_STEP = 160.0, 4.0, 8.0
START_GAP = 2.0
# First pushes that are followed by a second one: the best ones, and as many at random, stopped anywhere.
BRANCHES = 8
# What is paid, in pixels of remaining error: a pixel of way, and a block that is left out of place.
WAY_COST, UNFINISHED_COST = 0.03, 12.0
# Per pixel that a corner of the block is closer to a wall than the margin, and beyond the wall.
MARGIN, MARGIN_COST, BEYOND_COST = 18.0, 0.3, 5.0


@dataclass(frozen=True)
class Push:
    """Walk along `way` (points of the world), then push in `direction` until the block is at `subgoal`."""

    way: list[complex]
    direction: complex
    length: float
    subgoal: Pose


@dataclass(frozen=True)
class Tolerance:
    """Errors within which the block is in place: pixels and radians."""

    place: float
    turn: float

    def holds(self, model: BlockModel, pose: Pose, goal: Pose) -> np.ndarray:
        place = np.abs(model.origin(goal) - model.origin(pose))
        return (place < self.place) & (np.abs(model.turn_error(pose, goal)) < self.turn)


class PushPlanner:
    """Plans pushes of one block.

    Args:
        model: the block and the pusher.
    """

    def __init__(self, model: BlockModel):
        self.model = model
        points, self._normals = model.outline(CONTACT_SPACING, CONTACT_GAP, LINE_GAP)
        self._starts = points + self._normals * (model.radius + START_GAP)
        self.roads = Roads(model, points + self._normals * (model.radius + CONTACT_GAP))

    def plan(
        self,
        pusher: complex,
        pose: Pose,
        pusher_goal: complex,
        goal: Pose,
        tolerance: Tolerance,
        rng: np.random.Generator,
    ) -> Push:
        """The push that promises the least cost after itself or after one more push."""
        survey = self.roads.survey(pose, pusher)
        ways = survey.contact_costs()
        if not np.isfinite(ways).any():
            # Walled in: walk straight and push the block aside.
            ways = np.abs(self.model.to_world(self.roads.contacts, pose) - pusher)
        contacts, directions = self._candidates(pose, rng)
        poses = self._roll(pose.repeat(len(contacts)), contacts, directions, FIRST_STEP)
        walked = ways[contacts] + FIRST_STEP * np.arange(len(poses.center))[:, None]
        spent = WAY_COST * walked + self._wall_cost(poses)
        single = spent + self._error(poses, goal, tolerance)
        # Not moving is no plan.
        single[0] = np.inf
        best_steps = single.argmin(0)
        columns = np.arange(len(contacts))
        order = np.argsort(single[best_steps, columns], kind="stable")
        reachable = columns[np.isfinite(ways[contacts])]
        wild = rng.choice(reachable, BRANCHES)
        branches = np.concatenate([order[:BRANCHES], wild])
        steps = np.concatenate([best_steps[order[:BRANCHES]], rng.integers(1, len(single), BRANCHES)])
        pairs = spent[steps, branches] + self._second_cost(
            poses[steps, branches], contacts[branches], pusher_goal, goal, tolerance, rng
        )
        chosen, step = order[0], best_steps[order[0]]
        if pairs.min() < single[step, chosen]:
            chosen, step = branches[pairs.argmin()], steps[pairs.argmin()]
        return Push(
            way=survey.way(complex(self.model.to_world(self.roads.contacts[contacts[chosen]], pose))),
            direction=complex(directions[chosen]),
            length=float(step * FIRST_STEP),
            subgoal=poses[step, chosen],
        )

    def _candidates(self, pose: Pose, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Contacts `(n,)` by index and pushing directions `(n,)` in the world, for poses of shape () or (n,)."""
        contacts = np.repeat(np.arange(len(self._starts)), len(ANGLES))
        angles = np.tile(ANGLES, len(self._starts)) + rng.uniform(-ANGLE_SPREAD, ANGLE_SPREAD, len(contacts))
        return contacts, -self._normals[contacts] * np.exp(1j * angles) * pose.turn

    def _second_cost(
        self,
        poses: Pose,
        last_contacts: np.ndarray,
        pusher_goal: complex,
        goal: Pose,
        tolerance: Tolerance,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Cost of the best push from each of the poses `(b,)`, without what was spent before."""
        count = len(poses.center)
        contacts, local = self._candidates(Pose(np.array(0j), np.array(0.0)), rng)
        tiled = np.tile(contacts, count)
        starts = poses.repeat(len(contacts))
        after = self._roll(starts, tiled, np.tile(local, count) * starts.turn, SECOND_STEP)
        ways = self.roads.between_contacts[np.repeat(last_contacts, len(contacts)), tiled]
        ways = ways + OUTSIDE_COST * outside(self.model.to_world(self.roads.contacts[tiled], starts))
        walked = ways + SECOND_STEP * np.arange(len(after.center))[:, None]
        cost = WAY_COST * walked + self._error(after, goal, tolerance)
        steps, columns = cost.argmin(0), np.arange(len(tiled))
        last = after[steps, columns]
        pusher = self.model.to_world(self.roads.contacts[tiled], last)
        cost = cost[steps, columns] + self._wall_cost(last) + WAY_COST * np.abs(pusher - pusher_goal)
        return cost.reshape(count, -1).min(1)

    def _roll(self, start: Pose, contacts: np.ndarray, directions: np.ndarray, step: float) -> Pose:
        pushers = self.model.to_world(self._starts[contacts], start)
        return self.model.push(start, pushers, directions, round(PUSH_LENGTH / step), step)

    def _error(self, pose: Pose, goal: Pose, tolerance: Tolerance) -> np.ndarray:
        unfinished = ~tolerance.holds(self.model, pose, goal)
        return self.model.distance(pose, goal) + UNFINISHED_COST * unfinished

    def _wall_cost(self, pose: Pose) -> np.ndarray:
        corners = self.model.corners - self.model.cog
        world = pose.center[..., None] + corners * pose.turn[..., None]
        x, y = world.real, world.imag
        closest = np.minimum(np.minimum(x, y), INNER_LOW + INNER_HIGH - np.maximum(x, y)).min(-1) - INNER_LOW
        return MARGIN_COST * np.maximum(MARGIN - closest, 0) + BEYOND_COST * np.maximum(-closest, 0)
