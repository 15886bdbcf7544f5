"""What latent distances mean: against true distances, and as nearest neighbours."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...measures.correlation import spearman
from ...measures.significance import bootstrap_interval
from ..common.embeddings import FrameSample, other_episode, same_episode
from ..common.inputs import Inputs
from ..common.provenance import has_states
from .result import DistanceCorrelation, Distances, Retrieval
from .retrieval import draw_neighbors, nearest_neighbors

if TYPE_CHECKING:
    from ...tasks.state_env import StateEnv

QUERIES, NEIGHBORS = 6, 5
PLOTTED = 400


class Geometry:
    """What latent distances between sampled frames mean.

    Args:
        inputs: see `Inputs`.
        sample: the frames.
        vectors: `(n, d)` their embeddings.
        seed: of the pairs.
    """

    def __init__(self, inputs: Inputs, sample: FrameSample, vectors: np.ndarray, seed: int):
        self.inputs, self.sample, self.vectors, self.seed = inputs, sample, vectors, seed
        self.within = same_episode(sample.episodes, seed)
        self.across = other_episode(sample.episodes, seed)
        self.neighbors = nearest_neighbors(vectors, sample.episodes, NEIGHBORS)
        # True distances need the environment and its states.
        self._known = inputs.env is not None and has_states(inputs.episodes)

    def _true(self, first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
        """True distances of frames, by their numbers in the sample; `None` where nobody knows them."""
        if not self._known:
            return None
        states = self.inputs.episodes.states[self.sample.rows]
        with closing(self._environment()) as env:
            return env.distance(states[first], states[second])

    def _environment(self) -> "StateEnv":
        env = self.inputs.make_env()
        env.reset(seed=0, options={"goal_image": False})
        return env

    def distances(self) -> Distances | None:
        """Spearman correlation of latent and true distances, bootstrapped over pairs; `None` where no true ones are
        known."""
        if not self._known:
            return None
        with closing(self._environment()) as env:
            unit = env.distance_unit
        every = np.arange(len(self.sample))
        found = {}
        for name, partner in (("within_episode", self.within), ("across_episodes", self.across)):
            pairs = every[partner != every]
            true = self._true(pairs, partner[pairs])
            if true is None:
                return None
            latent = np.linalg.norm(self.vectors[pairs] - self.vectors[partner[pairs]], axis=1)

            def correlation(index: np.ndarray, latent: np.ndarray = latent, true: np.ndarray = true) -> float:
                return spearman(latent[index], true[index])

            found[name] = DistanceCorrelation(
                pairs=len(pairs),
                spearman=correlation(np.arange(len(pairs))),
                interval=bootstrap_interval(correlation, len(pairs), self.seed, resamples=500),
                latent=latent[:PLOTTED].tolist(),
                true=true[:PLOTTED].tolist(),
            )
        return Distances(unit=unit, **found)

    def retrieval(self) -> Retrieval:
        """True distance of the nearest neighbour and of a random frame of another episode, means over the frames."""
        every = np.arange(len(self.sample))
        near, random = self._true(every, self.neighbors.indices[:, 0]), self._true(every, self.across)
        if near is None or random is None:
            return Retrieval(frames=len(self.sample), nearest=None, random=None, ratio=None)
        return Retrieval(
            frames=len(self.sample),
            nearest=float(near.mean()),
            random=float(random.mean()),
            ratio=float(near.mean() / random.mean()) if random.mean() > 0 else None,
        )

    def draw(self, path: Path) -> None:
        """Queries from different episodes and their neighbours."""
        episodes, rows = self.inputs.episodes, self.sample.rows
        first = np.unique(self.sample.episodes, return_index=True)[1]
        queries = first[np.linspace(0, len(first) - 1, min(QUERIES, len(first))).astype(int)]
        pictures, labels = [], []
        for query in queries:
            found = self.neighbors.indices[query]
            true = self._true(np.full(NEIGHBORS, query), found)
            pictures.append(episodes.frames(np.r_[rows[query], rows[found]]))
            named = [f"d = {distance:.3g}" for distance in self.neighbors.distances[query]]
            if true is not None:
                named = [f"{one}, true {far:.3g}" for one, far in zip(named, true, strict=True)]
            labels.append([f"episode {episodes.episode_ids[self.sample.episodes[query]]}", *named])
        draw_neighbors(path, pictures, labels)
