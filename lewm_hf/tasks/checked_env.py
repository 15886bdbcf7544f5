"""Does an environment keep the contract of a task? Found out before the first episode is collected."""

import numpy as np
from gymnasium.spaces import Box

from .state_env import StateEnv


def check_environment(env: StateEnv, env_id: str) -> None:
    """Resets an environment and looks at what it promises: vectors, pictures, states that can be set.

    Args:
        env_id: what the message calls it.

    Raises:
        ValueError: one line for the first promise that is broken, and how to keep it.
    """
    space = env.action_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise ValueError(
            f"{env_id} takes actions of {space}: let action_space be a Box of one dimension, or for choices "
            "lewm_hf.tasks.action_vectors.OneHot"
        )
    rate = env.metadata.get("render_fps")
    if not isinstance(rate, int | float) or not rate > 0:
        raise ValueError(f'{env_id} says render_fps={rate!r}: let metadata["render_fps"] be a number above 0')
    observation, _ = env.reset(seed=0, options={"goal_image": False})
    seen = env.recorded(observation)
    if seen is not None and (not isinstance(seen, np.ndarray) or seen.ndim != 1 or seen.dtype.kind not in "fiub"):
        kind = f"an array {seen.shape} of {seen.dtype}" if isinstance(seen, np.ndarray) else type(seen).__name__
        raise ValueError(
            f"{env_id} observes {kind}, but what is recorded of it is a vector: let its `recorded(observation)` return "
            "one, or None"
        )
    env.check_pictures(env_id)
    if env.restorable:
        state = env.check_state(env.get_state())
        env.set_state(state)
        again = env.check_state(env.get_state())
        if not np.array_equal(state, again):
            raise ValueError(
                f"{env_id}: set_state(get_state()) does not give the state back, but {again.tolist()} for "
                f"{state.tolist()}: episodes could not be begun in the middle"
            )
