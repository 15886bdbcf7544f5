"""The four tasks as gymnasium environments: `import lewm_hf.envs`, then `gymnasium.make("lewm/TwoRoom-v0")`."""

from dataclasses import dataclass
from typing import Any

from ..extras import requires_extra

with requires_extra("tworoom"):
    import gymnasium


@dataclass(frozen=True)
class EnvEntry:
    """One task: its gymnasium id, where its class lives, the pip extra it needs, steps before truncation."""

    env_id: str
    entry_point: str
    extra: str
    max_episode_steps: int


# By the short names of the command line. Entry points are strings: only the task in use is imported.
ENVS = {
    "two_room": EnvEntry("lewm/TwoRoom-v0", "lewm_hf.tasks.two_room.env:TwoRoomEnv", "tworoom", 100),
    "push_t": EnvEntry("lewm/PushT-v0", "lewm_hf.tasks.push_t.env:PushTEnv", "pusht", 300),
    "reacher": EnvEntry("lewm/Reacher-v0", "lewm_hf.tasks.reacher.env:ReacherEnv", "reacher", 200),
    "cube": EnvEntry("lewm/Cube-v0", "lewm_hf.tasks.cube.env:CubeEnv", "cube", 200),
}


def register_envs() -> None:
    """Registers the tasks with gymnasium; calling it again changes nothing."""
    for entry in ENVS.values():
        if entry.env_id not in gymnasium.registry:
            gymnasium.register(entry.env_id, entry_point=entry.entry_point, max_episode_steps=entry.max_episode_steps)


def find_env(name: str) -> EnvEntry:
    """The task behind a short name (`"two_room"`) or an id (`"lewm/TwoRoom-v0"`).

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    for short, entry in ENVS.items():
        if name in (short, entry.env_id):
            return entry
    raise ValueError(f"unknown environment {name!r}: use one of {', '.join(ENVS)}")


def short_name(name: str) -> str:
    """The short name behind a short name or an id.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    entry = find_env(name)
    return next(short for short, known in ENVS.items() if known is entry)


def make_env(name: str, **kwargs: Any):
    """The unwrapped environment (a `GoalEnv`) of a short name or id.

    Raises:
        ValueError: for an unknown name, or argument values that the environment refuses.
        ImportError: where the environment's library is missing, naming the pip extra.
    """
    entry = find_env(name)
    register_envs()
    with requires_extra(entry.extra):
        try:
            return gymnasium.make(entry.env_id, disable_env_checker=True, **kwargs).unwrapped
        except TypeError as error:
            reason = str(error).partition(" was raised from")[0]
            if "unexpected keyword argument" not in reason:
                raise
            raise ValueError(f"arguments {kwargs} do not fit {entry.env_id}: {reason}") from None
