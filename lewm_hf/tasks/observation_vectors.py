"""What of an observation is a vector: recorded beside the picture, it must not hold another picture."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple, flatten


def vector_part(space: Space, observation: Any) -> np.ndarray:
    """The numbers of an observation, `(n,)` float32, choices one-hot, in the order that gymnasium flattens it.

    Boxes of several dimensions are pictures and are left out, wherever they stand; so are text and what has no fixed
    size. `n` may be 0.

    Args:
        space: of the observation.
    """
    parts: list[np.ndarray] = []
    if isinstance(space, Dict):
        parts = [vector_part(part, observation[name]) for name, part in space.spaces.items()]
    elif isinstance(space, Tuple):
        parts = [vector_part(part, seen) for part, seen in zip(space.spaces, observation, strict=True)]
    elif isinstance(space, Discrete | MultiBinary | MultiDiscrete) or (isinstance(space, Box) and len(space.shape) < 2):
        parts = [np.asarray(flatten(space, observation), dtype=np.float32).ravel()]
    return np.concatenate([np.empty(0, dtype=np.float32), *parts])
