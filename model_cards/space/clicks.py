"""What a click on a picture means: a place in the picture and a state in, another state out. No user interface here.

A place is (x, y) as shares of the picture's width and height, (0, 0) the upper left corner, so that the size at which
the picture is shown does not matter. Nothing is drawn and no environment is changed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

TWO_ROOM_CANVAS, PUSH_T_CANVAS = 224, 512  # side of the world in pixels, pixel centers at integers


class Refused(ValueError):
    """A place that means no admissible state; the text is one line for the person who clicked."""


@dataclass(frozen=True)
class Clicks:
    """What can be placed in an environment.

    Args:
        parts: what a click may move, the first by default.
        place: `(env, state, part, x, y, angle)` -> state vector.
        angle: what the angle turns, in degrees; `None` where there is nothing to turn.
    """

    parts: tuple[str, ...]
    place: Callable[[Any, np.ndarray, str, float, float, float], np.ndarray]
    angle: str | None = None


def place(name: str, env, state: np.ndarray, part: str, x: float, y: float, angle: float = 0.0) -> np.ndarray:
    """The state, at rest, in which `part` lies where the picture was clicked.

    Args:
        name: short name of the environment.
        env: an instance of it, whose look and bounds count.
        state: everything that the click does not place stays as it is here.
        part: one of `CLICKS[name].parts`.
        x, y: shares of the picture's width and height, 0 to 1.
        angle: in degrees, counterclockwise as seen in the picture.

    Raises:
        Refused: where that is impossible, with the reason.
    """
    return CLICKS[name].place(env, np.array(state, dtype=np.float64), part, x, y, math.radians(angle))


def _two_room(env, state, part, x, y, angle):
    position = np.array([x, y]) * TWO_ROOM_CANVAS - 0.5
    _check(env, {"agent.position": position})
    return position


def _push_t(env, state, part, x, y, angle):
    from lewm_hf.tasks.push_t.shapes import SHAPES, rotation

    position = np.array([x, y]) * PUSH_T_CANVAS - 0.5
    if part == "pusher":
        state[:2] = position
        _check_range(env, "agent.start_position", position)
    else:
        # The state holds the middle of the T's bar; a person means the middle of the T.
        state[4] = -angle % (2 * np.pi)
        middle = SHAPES["T"].center_of_gravity(env.variation["block.scale"])
        state[2:4] = position - rotation(state[4]) @ middle
        _check_range(env, "block.start_position", state[2:4])
    _check(env, {"block.angle": state[4], "block.start_position": state[2:4], "agent.start_position": state[:2]})
    return env.at_rest(state)


def _reacher(env, state, part, x, y, angle):
    shoulder = env.data.body("arm").xpos
    tip = on_plane(env, x, y, height=env.data.geom("finger").xpos[2])
    links = [float(np.linalg.norm(env.model.body(body).pos)) for body in ("hand", "finger")]
    bound = float(env.model.joint("wrist").range[1])
    bend = 1.0 if part == REACHER_PARTS[0] else -1.0
    return np.array([*arm_angles(tip - shoulder[:2], *links, bend, bound), 0.0, 0.0])


def _cube(env, state, part, x, y, angle):
    height = env.variation["cube.size"]  # half the edge: where the center of a cube on the table is
    position = on_plane(env, x, y, height)
    _check(env, {"cube.start_position": position})
    state[14:17] = (*position, height)
    state[17:21] = math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)
    return env.at_rest(state)


REACHER_PARTS = ("fingertip, elbow to the right", "fingertip, elbow to the left")
CLICKS = {
    "two_room": Clicks(("agent",), _two_room),
    "push_t": Clicks(("block", "pusher"), _push_t, "Angle of the block"),
    "reacher": Clicks(REACHER_PARTS, _reacher),
    "cube": Clicks(("cube",), _cube, "Angle of the cube"),
}


def _check(env, values: dict[str, Any]) -> None:
    """Refuses values that the environment itself would never draw."""
    space = env.variation_space
    look = space.initial_values() | values
    for name, value in values.items():
        _check_range(env, name, value)
        factor = space.factors[name]
        if factor.constraint is not None and not factor.constraint(value, look):
            raise Refused(f"this spot is not possible: {factor.rule}")


def _check_range(env, name: str, value: Any) -> None:
    factor = env.variation_space.factors[name]
    if np.any(value < factor.low) or np.any(value > factor.high):
        raise Refused("this spot is too far out: click nearer to the middle")


def on_plane(env, x: float, y: float, height: float) -> np.ndarray:
    """(x, y) in m of the point at `height` that the camera of a MuJoCo environment shows at a place in the picture.

    Raises:
        Refused: for a place in the sky.
    """
    camera = env.data.cam(env.camera)
    fovy = math.radians(float(env.model.camera(env.camera).fovy[0]))
    return ray_meets_plane(camera.xpos, camera.xmat.reshape(3, 3), fovy, x, y, height)


def ray_meets_plane(
    position: np.ndarray, axes: np.ndarray, fovy: float, x: float, y: float, height: float
) -> np.ndarray:
    """(x, y) where the ray through a place in a square picture meets the horizontal plane at `height`.

    Args:
        position: of the camera, (3,).
        axes: `(3, 3)`, whose columns are right, up and backwards.
        fovy: vertical field of view in rad.
    """
    half = math.tan(fovy / 2)
    ray = axes @ np.array([(2 * x - 1) * half, (1 - 2 * y) * half, -1.0])
    if ray[2] * (height - position[2]) <= 0:
        raise Refused("there is nothing to stand on here: click on the floor")
    return position[:2] + ray[:2] * (height - position[2]) / ray[2]


def arm_angles(tip: np.ndarray, upper: float, lower: float, bend: float, bound: float) -> tuple[float, float]:
    """Angles (shoulder, wrist) in rad of a planar arm whose fingertip is at `tip`, seen from the shoulder.

    Args:
        upper, lower: lengths of its two links.
        bend: sign of the wrist angle.
        bound: largest wrist angle.

    Raises:
        Refused: out of reach.
    """
    distance = float(np.hypot(*tip))
    least = math.sqrt(upper**2 + lower**2 + 2 * upper * lower * math.cos(bound))
    if not least <= distance <= upper + lower:
        where = "beyond the arm's reach" if distance > least else "too near to the shoulder"
        raise Refused(
            f"this spot is {where}: it is {100 * distance:.1f} cm away, the fingertip gets {100 * least:.1f} to "
            f"{100 * (upper + lower):.1f} cm from the shoulder"
        )
    cosine = (distance**2 - upper**2 - lower**2) / (2 * upper * lower)
    wrist = bend * math.acos(min(max(cosine, -1.0), 1.0))
    shoulder = math.atan2(tip[1], tip[0]) - math.atan2(lower * math.sin(wrist), upper + lower * math.cos(wrist))
    return shoulder, wrist
