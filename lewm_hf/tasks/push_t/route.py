"""Ways for PushT's pusher around the block: straight lines between waypoints near the block's corners.

Points are complex numbers in body coordinates, so that waypoints and contacts are constants of the block's shape.
"""

import numpy as np

from .block_model import BlockModel, Pose

# Pixels between pusher and block: at a contact's starting point, on a straight line, at a waypoint.
CONTACT_GAP, LINE_GAP, WAYPOINT_GAP = 6.0, 4.0, 9.0
# Pixels between the sampled points of a line.
SAMPLE_SPACING = 8.0
# The pusher's center stays between these coordinates where it can; a pixel outside costs as much as `OUTSIDE_COST`
# pixels of way.
ARENA_LOW, ARENA_HIGH = 12.0, 499.0
OUTSIDE_COST = 10.0


class Roads:
    """The waypoints around one block.

    Args:
        model: the block.
        contacts: `(c,)` complex, points from which pushes start.
    """

    def __init__(self, model: BlockModel, contacts: np.ndarray):
        self.model = model
        self.contacts = contacts
        self.line_gap = model.radius + LINE_GAP
        reach = model.radius + WAYPOINT_GAP
        low, high = model.low - reach, model.high + reach
        corners = np.concatenate([x[:, 0] + 1j * y[:, 1] for y in (low, high) for x in (low, high)])
        self.nodes = corners[model.gap(corners) >= reach - 1e-6]
        self._between = self._lengths(self.nodes, self.nodes)
        self._to_contacts = self._lengths(self.nodes, contacts)
        self.between_contacts = self._shortest_between_contacts()

    def _lengths(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Lengths `(starts, ends)` of straight lines; infinite where one comes too close to the block."""
        span = ends[None] - starts[:, None]
        samples = max(2, int(np.ceil(np.abs(span).max(initial=0.0) / SAMPLE_SPACING)))
        fractions = np.arange(samples + 1) / samples
        gaps = self.model.gap(starts[:, None, None] + span[..., None] * fractions)
        return np.where(gaps.min(-1) >= self.line_gap - 1e-6, np.abs(span), np.inf)

    def _shortest_between_contacts(self) -> np.ndarray:
        """Shortest ways `(contacts, contacts)`, walls left out."""
        nodes = self._between.copy()
        for node in range(len(nodes)):
            nodes = np.minimum(nodes, nodes[:, node, None] + nodes[None, node])
        from_node = (nodes[:, :, None] + self._to_contacts[None]).min(1)
        around = (self._to_contacts[:, :, None] + from_node[:, None]).min(0)
        return np.minimum(self._lengths(self.contacts, self.contacts), around)

    def survey(self, pose: Pose, pusher: complex) -> "Survey":
        """The shortest ways from the pusher (world) around the block at `pose`."""
        return Survey(self, pose, pusher)


class Survey:
    """Shortest ways from one position; see `Roads`."""

    def __init__(self, roads: Roads, pose: Pose, pusher: complex):
        self._roads, self._pose = roads, pose
        model = roads.model
        local = complex(model.to_body(pusher, pose))
        # From a contact the first move leads straight away from the block.
        self._exit = model.leave(local, roads.line_gap + 0.5) if model.gap(np.array(local)) < roads.line_gap else None
        self._start = local if self._exit is None else self._exit
        node_cost = OUTSIDE_COST * outside(model.to_world(roads.nodes, pose))
        hops = roads._between + node_cost
        first = roads._lengths(np.array([self._start]), roads.nodes)[0] + node_cost
        # Few nodes: relaxing as often as there are nodes is Bellman-Ford's shortest paths.
        self._before = np.full(len(roads.nodes), -1)
        for _ in range(len(roads.nodes)):
            through = first[:, None] + hops
            best = through.argmin(0)
            better = through[best, np.arange(len(best))] < first - 1e-9
            if not better.any():
                break
            self._before[better] = best[better]
            first = np.where(better, through[best, np.arange(len(best))], first)
        self._first = first

    def contact_costs(self) -> np.ndarray:
        """Pixels of way to every contact, `(c,)`, infinite where there is none."""
        roads = self._roads
        direct = roads._lengths(np.array([self._start]), roads.contacts)[0]
        around = (self._first[:, None] + roads._to_contacts).min(0)
        world = roads.model.to_world(roads.contacts, self._pose)
        return np.minimum(direct, around) + OUTSIDE_COST * outside(world)

    def way(self, target: complex) -> list[complex]:
        """Points of the world on the way to `target` (world), which comes last."""
        roads, model = self._roads, self._roads.model
        local = np.array([complex(model.to_body(target, self._pose))])
        direct = roads._lengths(np.array([self._start]), local)[0, 0]
        around = self._first + roads._lengths(roads.nodes, local)[:, 0]
        points = [local[0]]
        if direct > around.min():
            node = int(around.argmin())
            while node >= 0:
                points.append(roads.nodes[node])
                node = int(self._before[node])
        if self._exit is not None:
            points.append(self._exit)
        return [complex(model.to_world(point, self._pose)) for point in reversed(points)]


def outside(points: np.ndarray) -> np.ndarray:
    """How far points of the world are outside the arena, in pixels along both axes together."""
    x, y = points.real, points.imag
    beyond = np.maximum(ARENA_LOW - x, 0) + np.maximum(x - ARENA_HIGH, 0)
    return beyond + np.maximum(ARENA_LOW - y, 0) + np.maximum(y - ARENA_HIGH, 0)
