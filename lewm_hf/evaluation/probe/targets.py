"""What a probe reads out of an embedding, per environment, computed from simulator states.

Angles appear as sine and cosine: a raw angle jumps where a turn ends, and no smooth probe can follow it. The paper
does not say what it used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Target:
    """One property of the scene.

    Args:
        name: as in the paper, where it has the property.
        unit: of the raw values; sines and cosines have none.
        moving: a velocity, which one frame cannot show: probed from a window of embeddings too.
    """

    name: str
    unit: str = ""
    moving: bool = False


@dataclass(frozen=True)
class TargetSet:
    """The targets of one environment.

    Args:
        targets: what `measure` returns.
        measure: `(env, states, previous states)`, `(n, state)` float64 each, one environment step apart -> values
            `(n, k)` by target name. The environment's own state is spoilt.
    """

    targets: tuple[Target, ...]
    measure: Callable[[object, np.ndarray, np.ndarray], Values]

    def choose(self, names: list[str] | tuple[str, ...] | None) -> tuple[Target, ...]:
        """The targets with these names; all of them for `None`.

        Raises:
            ValueError: for an unknown name, listing the known ones, or for an empty list.
        """
        if names is None:
            return self.targets
        known = {target.name: target for target in self.targets}
        for name in names:
            if name not in known:
                raise ValueError(f"unknown probe target {name!r}: use any of {', '.join(known)}")
        if not names:
            raise ValueError(f"the list of probe targets is empty: use any of {', '.join(known)}")
        return tuple(known[name] for name in dict.fromkeys(names))


def circle(angles: np.ndarray) -> np.ndarray:
    """Angles `(n,)` or `(n, k)` in rad -> sines and cosines `(n, 2k)`."""
    angles = np.asarray(angles).reshape(len(angles), -1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _two_room(env, states: np.ndarray, previous: np.ndarray) -> Values:
    return {"agent position": states, "agent velocity": states - previous}


def _push_t(env, states: np.ndarray, previous: np.ndarray) -> Values:
    return {
        "agent position": states[:, 0:2],
        "block position": states[:, 2:4],
        "block angle": circle(states[:, 4]),
        "agent velocity": states[:, 5:7],
        "block velocity": states[:, 2:4] - previous[:, 2:4],
    }


def _reacher(env, states: np.ndarray, previous: np.ndarray) -> Values:
    fingertips = []
    for state in states:
        env.set_state(state)
        fingertips.append(env.data.geom("finger").xpos[:2].copy())
    return {
        "joint angles": circle(states[:, 0:2]),
        "fingertip position": np.stack(fingertips),
        "joint velocity": states[:, 2:4],
    }


CUBE_NAMES = {
    "joint position": "proprio/joint_pos",
    "joint velocity": "proprio/joint_vel",
    "effector position": "proprio/effector_pos",
    "effector yaw": "proprio/effector_yaw",
    "gripper opening": "proprio/gripper_opening",
    "block position": "privileged/block_0_pos",
    "block quaternion": "privileged/block_0_quat",
    "block yaw": "privileged/block_0_yaw",
}


def _cube(env, states: np.ndarray, previous: np.ndarray) -> Values:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in CUBE_NAMES}
    for state in states:
        env.set_state(state)
        info = env.oracle_info()
        for name, key in CUBE_NAMES.items():
            rows[name].append(np.atleast_1d(info[key]))
    values = {name: np.stack(parts) for name, parts in rows.items()}
    quaternion, yaw = values["block quaternion"], values["block yaw"][:, 0]
    return values | {
        "effector yaw": circle(values["effector yaw"]),
        # q and -q are the same rotation.
        "block quaternion": np.where(quaternion[:, :1] < 0, -quaternion, quaternion),
        "block yaw": circle(yaw),
        "block yaw mod 90": circle(4 * yaw),
        "block velocity": states[:, 14:17] - previous[:, 14:17],
    }


TARGETS: Mapping[str, TargetSet] = {
    "two_room": TargetSet(
        (Target("agent position", "px"), Target("agent velocity", "px/step", moving=True)), _two_room
    ),
    "push_t": TargetSet(
        (
            Target("agent position", "px"),
            Target("block position", "px"),
            Target("block angle"),
            Target("agent velocity", "px/s", moving=True),
            Target("block velocity", "px/step", moving=True),
        ),
        _push_t,
    ),
    "reacher": TargetSet(
        (
            Target("joint angles"),
            Target("fingertip position", "m"),
            Target("joint velocity", "rad/s", moving=True),
        ),
        _reacher,
    ),
    "cube": TargetSet(
        (
            Target("joint position", "rad"),
            Target("joint velocity", "rad/s", moving=True),
            Target("effector position", "m"),
            Target("effector yaw"),
            Target("gripper opening"),
            Target("block position", "m"),
            Target("block quaternion"),
            Target("block yaw"),
            # All four sides of the cube look alike: this much of its yaw can be seen.
            Target("block yaw mod 90"),
            Target("block velocity", "m/step", moving=True),
        ),
        _cube,
    ),
}
