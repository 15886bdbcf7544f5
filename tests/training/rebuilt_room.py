"""TwoRoom behind a thicker wall with its door elsewhere, as a task of its own: no shipped checkpoint has seen it."""

from typing import Any

import numpy as np

from lewm_hf.tasks.task import Recording, Task
from lewm_hf.tasks.two_room.env import TwoRoomEnv

WALL = {"wall.thickness": 24, "door.position": np.full(3, 150)}


class RebuiltRoomEnv(TwoRoomEnv):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        options = dict(options or {})
        options["variation_values"] = WALL | dict(options.get("variation_values") or {})
        return super().reset(seed=seed, options=options)


TASK = Task(
    name="rebuilt_room",
    env_id="outside/RebuiltRoom-v0",
    entry_point="rebuilt_room:RebuiltRoomEnv",
    max_episode_steps=100,
    extra="tworoom",
    policies={"expert": "lewm_hf.tasks.two_room.expert:TwoRoomExpert"},
    recording=Recording(stop_at_success=True, image_format="png", episodes_per_file=100, noise="noise_std", fork=True),
)
