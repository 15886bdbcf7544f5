"""What a type checker must understand of the public face; `make types` reads this file, nothing runs it."""

from pathlib import Path
from typing import assert_type

import numpy as np

from lewm_hf import (
    EpisodeData,
    GoalEnv,
    Recording,
    StateEnv,
    Target,
    Task,
    collect,
    evaluate,
    find_task,
    load_episodes,
    make_env,
    register_task,
    task_names,
    write_report,
)


class Env(GoalEnv):
    state_names = ("x",)
    probe_targets = (Target("place", "m"),)

    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return np.abs(states - goals)[:, 0] < 0.1


task = Task(
    name="mine", env_id="mine/Env-v0", entry_point=Env, max_episode_steps=50, recording=Recording(image_format="png")
)
assert_type(register_task(task), Task)
assert_type(find_task("mine"), Task)
assert_type(task_names(), tuple[str, ...])
assert_type(make_env("mine"), StateEnv)
assert_type(make_env("mine").distance(np.zeros((1, 1)), np.zeros((1, 1))), np.ndarray | None)
assert_type(collect("mine", "episodes", 10), Path | str)
assert_type(load_episodes("episodes", "train"), EpisodeData)
assert_type(evaluate("folder", env="mine").rows[0].success, bool)
assert_type(write_report("run"), Path)
