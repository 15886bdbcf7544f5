"""Policies from outside: a class of the user's own, and checkpoints of Stable-Baselines3."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..extras import requires_extra
from .action_vectors import draw_action

# What only a checkpoint of this algorithm holds, in this order.
ALGORITHMS = {
    "clip_range": "PPO", "policy_delay": "TD3", "exploration_rate": "DQN", "target_entropy": "SAC", "gae_lambda": "A2C",
}  # fmt: skip
BROKEN = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, RuntimeError)


def is_outside(name: str) -> bool:
    """Whether the name of a policy is `module:Class` or the file of a checkpoint."""
    return ":" in name or name.endswith(".zip")


def outside_policy(name: str) -> Callable[..., Any]:
    """What makes a policy, with its further arguments as keywords.

    Args:
        name: `"module:Class"`, an `Expert` or anything with SB3's `predict(observation)`; or the file of a checkpoint.

    Raises:
        ImportError: one line where the module cannot be imported, or Stable-Baselines3 is missing.
        ValueError: one line where the module has no such class.
        FileNotFoundError: where there is no such file.
    """
    if name.endswith(".zip"):
        if not Path(name).is_file():
            raise FileNotFoundError(
                f"there is no policy {name}: give the file that model.save of Stable-Baselines3 wrote"
            )
        return partial(StableBaselinesPolicy, name)
    module, _, attribute = name.rpartition(":")
    try:
        kind = getattr(import_module(module), attribute, None)
    except BROKEN as error:
        reason = " ".join(str(error).split())
        raise ImportError(
            f"policy {name}: {module} cannot be imported ({reason}): mend it; is its folder on the path?"
        ) from error
    acts = callable(getattr(kind, "reset", None)) and callable(getattr(kind, "act", None))
    if kind is None or not (acts or callable(getattr(kind, "predict", None))):
        raise ValueError(
            f"policy {name}: {kind!r} is not a policy; give a class with reset(env, rng) and act(env), or with "
            "predict(observation)"
        )
    return kind if acts else partial(PredictingPolicy, kind)


class PredictingPolicy:
    """A policy that answers observations, as those of Stable-Baselines3 do: `predict(observation) -> (action, state)`.

    Args:
        kind: makes the policy; it may return an action alone, too.
        epsilon: share of actions that are uniformly random instead: a world model learns nothing of what never happens.
        **kwargs: of `kind`.

    Raises:
        ValueError: for a share outside [0, 1].
    """

    def __init__(self, kind: Callable[..., Any], *, epsilon: float = 0.0, **kwargs: Any):
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon={epsilon} must lie in [0, 1]: it is the share of random actions")
        self.policy, self.epsilon = kind(**kwargs), epsilon

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, env: Any) -> Any:
        if self._rng.random() < self.epsilon:
            return draw_action(env.action_space, self._rng)
        answer = self._predict(env.observe())
        return answer[0] if isinstance(answer, tuple) else answer

    def _predict(self, observation: Any) -> Any:
        return self.policy.predict(observation)


class StableBaselinesPolicy(PredictingPolicy):
    """A checkpoint of Stable-Baselines3's PPO, A2C, DQN, SAC, TD3 or DDPG, as `model.save` wrote it.

    Loading one runs code that it contains: only take files from people whom you trust.

    Args:
        path: the file.
        deterministic: the most likely action; otherwise drawn, from the episode's generator.
        epsilon: see `PredictingPolicy`.
        sha256: of the file; another content is refused. So a collection names what it was made with.

    Raises:
        ImportError: naming the extra where Stable-Baselines3 is missing.
        ValueError: one line for another file, or another algorithm's.
    """

    def __init__(self, path: str, *, deterministic: bool = True, epsilon: float = 0.0, sha256: str | None = None):
        found = file_sha256(path)
        if sha256 not in (None, found):
            raise ValueError(
                f"policy {path} has SHA-256 {found[:12]}, not {sha256[:12]}: it was written anew; collect anew"
            )
        super().__init__(partial(_load, path), epsilon=epsilon)
        self.deterministic = deterministic

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        super().reset(env, rng)
        self._seed = int(rng.integers(2**31))

    def _predict(self, observation: Any) -> Any:
        if self.deterministic:
            return self.policy.predict(observation, deterministic=True)
        self._seed += 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            return self.policy.predict(observation, deterministic=False)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _load(path: str) -> Any:
    with requires_extra("sac"):
        import stable_baselines3
    try:
        with zipfile.ZipFile(path) as archive:
            stated = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"policy {path} is not a checkpoint of Stable-Baselines3 ({error}): save the model again"
        ) from error
    names = [algorithm for key, algorithm in ALGORITHMS.items() if key in stated]
    if not names:
        raise ValueError(
            f"policy {path} is of none of the algorithms {', '.join(ALGORITHMS.values())}: wrap it in a class of your "
            "own with predict(observation), and give module:Class"
        )
    try:
        # It is going to act, not to learn.
        return getattr(stable_baselines3, names[0]).load(path, device="cpu", custom_objects={"buffer_size": 1})
    except (ValueError, TypeError, RuntimeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"policy {path} cannot be loaded ({reason}): was it saved by another version?") from error
