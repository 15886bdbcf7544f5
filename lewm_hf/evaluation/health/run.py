"""Is a world model in good health? Geometry of its embeddings, what its distances mean, and whether actions matter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...arguments_of import arguments_of
from ...measures.normality import epps_pulley, normal_quantile, standardized
from ...measures.significance import mean_interval
from ...measures.spectrum import effective_rank, isometric, singular_values, token_rows
from ...measures.straightness import cosines, pixel_straightness
from ...planning.world_model import check_imagines, check_ready
from ..common.agent import Agent
from ..common.analysis import Analysis
from ..common.embeddings import Stretches, encode_rows, portions, sample_frames, sample_stretches
from ..common.ranks import Ranks
from ..success.protocol import content_hash
from .arguments import HealthArguments
from .dynamics import rollout_errors, summarize
from .geometry import Geometry
from .precision import measure_precision
from .report import format_health, plot_health
from .result import EppsPulley, HealthResult, HealthSettings, Normality, Spectrum, Straightness

LEAST_EPISODES, LEAST_FRAMES = 5, 50
# Dimensions whose statistic is listed one by one.
DRAWN = 4096
# Distances are compared within episodes too.
FRAMES_OF_AN_EPISODE = 4


@dataclass(frozen=True)
class Health:
    """What `health` returns.

    Attributes:
        result: the content of `health.json`.
    """

    result: HealthResult


@arguments_of(HealthArguments)
def health(given: HealthArguments) -> Health:
    """Measures a frozen world model on held-out episodes.

    `straightness`: cosine of consecutive latent velocities, `frameskip` steps apart, beside that of the pictures.
    `spectrum`: effective rank and standard deviations. `normality`: Epps-Pulley per dimension, as SIGReg sees the
    embeddings and standardized. `distances`: Spearman correlation of latent and true goal distance, for goals in the
    same episode and in others. `dynamics`: open-loop error under true, swapped and no actions. `retrieval`: true
    distance of the nearest neighbour among other episodes, beside that of a random frame. `precision`: how far
    embeddings move when the model computes in bfloat16, over their spread. The files are `health.json`, `health.png`
    and `neighbors.png`.

    Returns:
        The result.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is computed, where model and episodes do not fit,
            episodes are too few or too short, or `out` holds the result of another question. `distances` and the
            distances of `retrieval` are `None` where no `StateEnv.distance` is known, and for episodes without
            simulator states.
    """
    return Health(given.carry_out(HealthAnalysis).found)


class HealthAnalysis(Analysis):
    """See `health`."""

    kind, title, result_type = "health", "Straightness and health", HealthResult
    pictures = ("health.png", "neighbors.png")
    found: HealthResult

    def __init__(self, given: HealthArguments):
        frames, stretches, horizon, seed = given.frames, given.stretches, given.horizon, given.seed
        for name, value, least in (
            ("frames", frames, LEAST_FRAMES), ("stretches", stretches, 2), ("horizon", horizon, 1), ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        self.inputs = given.open_inputs(given.episodes)
        agent, episodes = self.inputs.agent, self.inputs.episodes
        check_ready(agent.model)
        check_imagines(agent.model, "health")
        count = len(episodes.lengths)
        if count < LEAST_EPISODES:
            raise ValueError(
                f"{count} episode{'s' * (count != 1)} cannot be compared: give at least {LEAST_EPISODES} episodes"
            )
        config = agent.model.config
        self.parts = sample_stretches(episodes, stretches, config.history_size + horizon, config.frameskip, seed)
        self.sample = sample_frames(episodes, frames, seed, together=FRAMES_OF_AN_EPISODE)
        self.settings = HealthSettings(
            frames=len(self.sample), stretches=len(self.parts), horizon=horizon, context=config.history_size,
            frameskip=config.frameskip, seed=seed,
        )  # fmt: skip

    def question(self) -> dict[str, Any]:
        return {"settings": self.settings, **self.inputs.question()}

    def run(self) -> HealthResult:
        agent, episodes, seed = self.inputs.agent, self.inputs.episodes, self.settings.seed
        rows, ranks = self.sample.rows, self.ranks
        embeddings = encode_rows(agent.model, agent.processor, episodes, rows, ranks=ranks)["embeddings"]
        vectors = isometric(embeddings.flatten(1)).numpy()
        self.geometry = Geometry(self.inputs, self.sample, vectors, seed)
        spectrum, normality = _spectrum(embeddings), _normality(embeddings.flatten(1), agent.model.config)
        precision = measure_precision(agent, episodes, rows, embeddings, ranks)
        del embeddings
        angles, errors = _along(agent, episodes, self.parts, seed, ranks)
        sections: dict[str, Any] = {
            "straightness": _straightness(episodes, self.parts.rows, angles),
            "spectrum": spectrum,
            "normality": normality,
            "distances": self.geometry.distances(),
            "dynamics": summarize(errors),
            "retrieval": self.geometry.retrieval(),
        }
        return HealthResult(
            env=self.inputs.env, settings=self.settings, **sections, sections_hash=content_hash(sections),
            **self.inputs.facts(), precision=precision,
        )  # fmt: skip

    @classmethod
    def text(cls, result: HealthResult) -> str:
        return format_health(result)

    def draw(self, out: Path) -> None:
        plot_health(out / "health.png", self.found)
        self.geometry.draw(out / "neighbors.png")


def _along(
    agent: Agent, episodes: Any, stretches: Stretches, seed: int, ranks: Ranks
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Cosines of consecutive velocities and errors of imagined latents, stretch by stretch.

    In portions, because the latents of all stretches together may be larger than memory.
    """
    measured = []
    for part in portions(len(stretches))[ranks.share]:
        latents = encode_rows(agent.model, agent.processor, episodes, stretches.rows[part])["embeddings"]
        measured.append((cosines(latents), rollout_errors(agent.model, latents, stretches, seed, part)))
    angles, errors = zip(*ranks.together(measured), strict=True)
    return torch.cat(angles), {way: np.concatenate([one[way] for one in errors]) for way in errors[0]}


def _straightness(episodes: Any, rows: np.ndarray, angles: torch.Tensor) -> Straightness:
    known = angles[angles.isfinite()]
    per_stretch = angles.nanmean(1)
    per_stretch = per_stretch[per_stretch.isfinite()]
    # Pictures of whole stretches are large: a few tell enough.
    some = rows[:: max(1, len(rows) // 32)]
    frames = torch.from_numpy(episodes.frames(some.ravel())).view(*some.shape, *episodes.frames(some[0, :1]).shape[1:])
    return Straightness(
        mean=float(known.mean()) if len(known) else 0.0,
        interval=mean_interval(per_stretch.numpy()) if len(per_stretch) else None,
        terms=int(angles.isfinite().sum()),
        still_terms=int((~angles.isfinite()).sum()),
        pixels=pixel_straightness(frames),
    )


def _spectrum(embeddings: torch.Tensor) -> Spectrum:
    """Of single frames; of a latent of patches every patch counts as a row."""
    rows = token_rows(embeddings)
    values = singular_values(rows.double())
    std = embeddings.double().std(0, correction=0)
    return Spectrum(
        dimensions=rows.shape[1],
        effective_rank=effective_rank(embeddings),
        singular_values=(values / values.max().clamp_min(1e-12)).tolist(),
        std_min=float(std.min()),
        std_mean=float(std.mean()),
        std_max=float(std.max()),
    )


def _normality(embeddings: torch.Tensor, config: Any) -> Normality:
    """Per dimension, of which some thousands are listed; `usual` is the 95 % quantile of as many Gaussian draws."""
    knots, t_max = getattr(config, "sigreg_knots", 17), getattr(config, "sigreg_t_max", 3.0)
    draws = min(len(embeddings), 500)
    found = {}
    for name, values in (("raw", embeddings), ("standardized", standardized(embeddings))):
        statistic = epps_pulley(values, knots=knots, t_max=t_max)
        usual = normal_quantile(draws, fitted=name == "standardized")
        found[name] = EppsPulley(
            per_dimension=statistic[:: -(-len(statistic) // DRAWN)].tolist(),
            mean=float(statistic.mean()),
            usual=usual,
            share_usual=float((statistic <= usual).float().mean()),
        )
    return Normality(n=len(embeddings), **found)
