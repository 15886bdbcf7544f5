"""Small world models and an environment whose right answers are known."""

from types import SimpleNamespace

import numpy as np
import torch


def linear_config(**changes):
    fields = {
        "history_size": 3, "frameskip": 2, "action_dim": 2, "action_mean": [0.1, -0.2], "action_std": [0.5, 0.6],
        "image_size": 28,
    }  # fmt: skip
    fields |= changes
    return SimpleNamespace(**fields, action_block_size=fields["frameskip"] * fields["action_dim"])


class LinearWorld:
    """`z' = z + W @ block`: the cost of a plan is a convex quadratic."""

    device = torch.device("cpu")
    training = False

    def __init__(self, latent: int = 4, **changes):
        self.config = linear_config(**changes)
        generator = torch.Generator().manual_seed(1)
        width = self.config.action_block_size
        self.matrix = torch.eye(latent, width) + 0.3 * torch.randn(latent, width, generator=generator)
        self.seen = []  # (B, S) of each roll-out

    def encode(self, pixel_values):
        return pixel_values.flatten(2)[..., : len(self.matrix)]

    def rollout(self, context, candidates, executed=None):
        self.seen.append(tuple(candidates.shape[:2]))
        return context[:, -1, None, None] + (candidates @ self.matrix.T).cumsum(2)


class NaiveWorld:
    """A LeWM imagined the slow way: the whole window through `predict` for every step. Remembers what it saw."""

    training = False

    def __init__(self, model):
        self.model, self.config, self.device = model, model.config, model.device
        self.encoded = []  # frames per call of encode
        self.rollouts = []  # (context, executed) per call
        self.windows = []  # (embeddings, blocks) per call of predict

    def encode(self, pixel_values):
        self.encoded.append(pixel_values.shape[0] * pixel_values.shape[1])
        return self.model.encode(pixel_values)

    def rollout(self, context, candidates, executed=None):
        self.rollouts.append((context, executed))
        samples, horizon = candidates.shape[1:3]
        embeddings = context.repeat_interleave(samples, 0)
        blocks = candidates.flatten(0, 1)
        if executed is not None:
            blocks = torch.cat([executed.repeat_interleave(samples, 0), blocks], 1)
        start = embeddings.shape[1]
        for end in range(start, start + horizon):
            window = slice(max(0, end - self.config.history_size), end)
            self.windows.append((embeddings[:, window], blocks[:, window]))
            following = self.model.predict(embeddings[:, window], blocks[:, window])[:, -1:]
            embeddings = torch.cat([embeddings, following], 1)
        return embeddings[:, start:].unflatten(0, (-1, samples))


class PointEnvs:
    """N points pushed about on a 28 x 28 picture."""

    def __init__(self, num_envs: int):
        self.positions = np.zeros((num_envs, 2))

    @staticmethod
    def picture(position) -> np.ndarray:
        rows, columns = np.mgrid[:28, :28]
        distance = (rows - 14 - 4 * position[0]) ** 2 + (columns - 14 - 4 * position[1]) ** 2
        return np.repeat((255 * np.exp(-distance / 30)).astype(np.uint8)[..., None], 3, -1)

    def render(self, env_ids) -> np.ndarray:
        return np.array([self.picture(self.positions[env_id]) for env_id in env_ids], dtype=np.uint8)

    def step(self, actions):
        moving = ~np.isnan(actions).any(1)
        self.positions[moving] += 0.1 * np.clip(actions[moving], -1, 1)
