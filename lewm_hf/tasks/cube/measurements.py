"""What can be measured in Cube: probe targets and impossible events."""

from typing import TYPE_CHECKING

import numpy as np

from ..measurable import Events, Target, circle, draw_until, far_from

if TYPE_CHECKING:
    from .env import CubeEnv

TELEPORT = 0.1
PROBE_TARGETS = (
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
)
EVENTS = Events("expert", 200, "cube.color", "the cube", "the cube, by at least 10 cm")
ORACLE_NAMES = {
    "joint position": "proprio/joint_pos",
    "joint velocity": "proprio/joint_vel",
    "effector position": "proprio/effector_pos",
    "effector yaw": "proprio/effector_yaw",
    "gripper opening": "proprio/gripper_opening",
    "block position": "privileged/block_0_pos",
    "block quaternion": "privileged/block_0_quat",
    "block yaw": "privileged/block_0_yaw",
}


def probe_values(env: "CubeEnv", states: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
    """See `StateEnv.probe_values`."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ORACLE_NAMES}
    for state in states:
        env.set_state(state)
        info = env.oracle_info()
        for name, key in ORACLE_NAMES.items():
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


def teleport(env: "CubeEnv", state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """See `StateEnv.teleport`: away from where the cube is and from the effector, lying on the table at rest."""
    position = env.variation_space.factors["cube.start_position"]
    effector = env.oracle_info()["proprio/effector_pos"][:2]

    def accept(xy: np.ndarray) -> bool:
        return far_from(state[14:16], TELEPORT)(xy) and far_from(effector, TELEPORT)(xy)

    new = state.copy()
    new[14:16] = draw_until(lambda: position.draw(rng), accept, "cube position")
    new[16] = env.variation["cube.size"]
    # Turned as before.
    yaw = env.oracle_info()["privileged/block_0_yaw"][0]
    new[17:21] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
    new[-6:] = 0.0
    return new
