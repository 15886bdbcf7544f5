"""Reacher's expert: a Soft Actor-Critic policy, trained here with stable-baselines3 and run without it.

The released episodes come from the uniform random policy (`random`), whatever the paper says about SAC. The actor is
stored as safetensors and its two hidden layers are evaluated in NumPy: loading never runs code.
"""

import logging
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ...extras import requires_extra
from ...files import replacing
from ..rollout import episode_rng, reset_episode
from .env import ReacherEnv

logger = logging.getLogger(__name__)

FORMAT = "lewm-reacher-sac-1"
FEATURES, ACTIONS = 7, 2
VELOCITY_SCALE = 5.0  # rad/s, about the speed that a constant torque settles at
REWARD_WIDTH = 0.5  # rad
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
TRAINING_STEPS = 20_000
EPISODE_STEPS = 100
EVALUATION_EPISODES = 100


class SACExpert:
    """Plays a trained actor.

    Args:
        policy: the file that `train_sac` wrote.
        stochastic: sample actions as during training, which covers more of the state space; else the mean action.

    Raises:
        ValueError: for no `policy`, or a file that `train_sac` did not write.
        FileNotFoundError: where the file does not exist.
    """

    def __init__(self, policy: str | os.PathLike | None = None, stochastic: bool = True):
        if policy is None:
            raise ValueError("the sac expert needs policy=FILE: train one with `lewm train-expert reacher`")
        self._layers = load_actor(policy)
        self.stochastic = stochastic

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, env: Any) -> np.ndarray:
        mean, log_std = actor_output(self._layers, features(env.unwrapped))
        noise = self._rng.standard_normal(ACTIONS) * np.exp(log_std) if self.stochastic else 0.0
        return np.tanh(mean + noise).astype(np.float32)


def features(env: ReacherEnv) -> np.ndarray:
    """What the actor sees, `(7,)` float32: sine and cosine of the shoulder's error, the wrist's error, sine and cosine
    of the wrist, both velocities. The arm's motion does not depend on where the shoulder points."""
    state = env.get_state()
    shoulder, wrist = env.joint_errors(state, env.goal_state)
    angles = [np.sin(shoulder), np.cos(shoulder), wrist / np.pi, np.sin(state[1]), np.cos(state[1])]
    return np.array([*angles, *(state[2:] / VELOCITY_SCALE)], dtype=np.float32)


def actor_output(layers: list[tuple[np.ndarray, np.ndarray]], inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log standard deviation of the action before tanh, both `(..., 2)`.

    Args:
        layers: weight and bias of each layer; the last two are the heads of mean and log standard deviation.
        inputs: `(..., 7)`.
    """
    for weight, bias in layers[:-2]:
        inputs = np.maximum(inputs @ weight.T + bias, 0.0)
    mean, log_std = (inputs @ weight.T + bias for weight, bias in layers[-2:])
    return mean, np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def load_actor(path: str | os.PathLike) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers that `save_actor` wrote, see `actor_output`.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: for a file of another kind, or with other shapes.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no policy at {path}: train one with `lewm train-expert reacher`")
    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, a reader and no dict
            kind = (file.metadata() or {}).get("format")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}): train the policy again") from error
    if kind != FORMAT:
        raise ValueError(
            f"{path} has format {kind!r}, expected {FORMAT!r}: give the file of `lewm train-expert reacher`"
        )
    names = [(f"{index}.weight", f"{index}.bias") for index in range(len(tensors) // 2)]
    if len(tensors) < 6 or {name for pair in names for name in pair} != set(tensors):
        raise ValueError(f"{path} has tensors {sorted(tensors)}, not those of an actor: train the policy again")
    layers = [(tensors[weight], tensors[bias]) for weight, bias in names]
    widths = [FEATURES, *(len(weight) for weight, _ in layers[:-2])]
    expected = [*zip(widths[1:], widths[:-1], strict=True), *[(ACTIONS, widths[-1])] * 2]
    found = [weight.shape for weight, _ in layers]
    if found != expected:
        raise ValueError(f"{path} has layers of shape {found}, expected {expected}: train the policy again")
    return layers


def save_actor(actor: Any, path: str | os.PathLike, facts: dict[str, Any]) -> None:
    """Writes the layers of stable-baselines3's SAC actor, to a temporary name first.

    Args:
        facts: kept as text in the file's header.
    """
    hidden = [layer for layer in actor.latent_pi if hasattr(layer, "weight")]
    tensors = {}
    for index, layer in enumerate([*hidden, actor.mu, actor.log_std]):
        tensors[f"{index}.weight"] = layer.weight.detach().cpu().numpy()
        tensors[f"{index}.bias"] = layer.bias.detach().cpu().numpy()
    with replacing(Path(path)) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, **{key: str(value) for key, value in facts.items()}})


def train_sac(
    out: str | os.PathLike,
    steps: int = TRAINING_STEPS,
    seed: int = 0,
    hidden_size: int = 128,
    log_every: int = 1000,
    evaluation_episodes: int = EVALUATION_EPISODES,
) -> dict[str, float]:
    """Trains a goal-reaching policy with stable-baselines3's SAC and stores its actor at `out`.

    The reward is exp(-|error| / 0.5 rad) plus 1 on success; episodes of 100 steps with random starts and goals. On the
    CPU: the network is too small for a GPU to help.

    Args:
        out: the file to write, `*.safetensors`.
        steps: environment steps, one gradient step each.
        seed: of starts, goals, exploration and initial weights.
        hidden_size: width of the two hidden layers.
        log_every: steps between log lines.
        evaluation_episodes: random problems for the success rate.

    Returns:
        `success_rate` (share of problems solved within 100 steps, deterministic policy) and `mean_steps` to success.

    Raises:
        ValueError: for `out` that exists or does not end in `.safetensors`, or non-positive numbers.
        ImportError: without stable-baselines3, naming the pip extra.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"out={out} must end in .safetensors")
    if out.exists():
        raise ValueError(f"{out} exists already: remove it or choose another name")
    for name, value in {"steps": steps, "hidden_size": hidden_size, "evaluation_episodes": evaluation_episodes}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    with requires_extra("sac"):
        from stable_baselines3 import SAC
        from stable_baselines3.common.callbacks import BaseCallback

    class Report(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps % log_every == 0:
                rewards = [episode["r"] for episode in self.model.ep_info_buffer]
                mean = np.mean(rewards) if rewards else float("nan")
                logger.info("step %d of %d: mean episode reward %.1f", self.num_timesteps, steps, mean)
            return True

    out.parent.mkdir(parents=True, exist_ok=True)
    architecture = {"net_arch": [hidden_size, hidden_size]}
    model = SAC("MlpPolicy", _TrainingEnv(), seed=seed, policy_kwargs=architecture, device="cpu", verbose=0)
    model.learn(steps, callback=Report())
    save_actor(model.actor, out, {"steps": steps, "seed": seed})
    return success_rate(SACExpert(out, stochastic=False), evaluation_episodes, seed)


def success_rate(expert: Any, episodes: int, seed: int, max_steps: int = EPISODE_STEPS) -> dict[str, float]:
    """Share of random problems solved, and steps needed by those."""
    env = ReacherEnv()
    lengths = []
    for episode in range(episodes):
        rng = episode_rng(seed, episode)
        reset_episode(env, rng)
        expert.reset(env, rng)
        for step in range(1, max_steps + 1):
            if env.step(expert.act(env))[2]:
                lengths.append(step)
                break
    mean_steps = float(np.mean(lengths)) if lengths else float("nan")
    return {"success_rate": len(lengths) / episodes, "mean_steps": mean_steps}


class _TrainingEnv(gymnasium.Env):
    """Reacher as SAC sees it: features of the error, a dense reward, no end at the goal, so that it learns to stay."""

    def __init__(self) -> None:
        self._env = ReacherEnv()
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (FEATURES,), dtype=np.float32)
        self.action_space = self._env.action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict[str, Any]]:
        self._env.reset(seed=seed, options={"goal_image": False})
        self._steps = 0
        return features(self._env), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reached = self._env.step(action)[2]
        error = np.linalg.norm(self._env.joint_errors(self._env.get_state(), self._env.goal_state))
        self._steps += 1
        reward = float(np.exp(-error / REWARD_WIDTH)) + float(reached)
        return features(self._env), reward, False, self._steps >= EPISODE_STEPS, {}
