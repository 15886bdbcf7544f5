"""The content of `health.json`."""

from dataclasses import dataclass, field
from typing import Any

from ...measures.significance import PairedTest
from ...records import Record, Result, absent, named
from ..common.facts import Curve, DatasetFacts, ModelFacts


@dataclass(frozen=True)
class HealthSettings(Record):
    """How was measured.

    Attributes:
        frames, stretches: single frames, and stretches of `context + horizon` frames.
        horizon: imagined action blocks.
        context, frameskip: of the model.
        seed: of all draws.
    """

    frames: int
    stretches: int
    horizon: int
    context: int
    frameskip: int
    seed: int


@dataclass(frozen=True)
class Straightness(Record):
    """Cosine of consecutive velocities.

    Attributes:
        mean, interval: in latent space, with the 95 % interval over stretches; `None` where everything stands still.
        terms, still_terms: pairs of velocities with and without a direction.
        pixels: the mean in pixel space.
    """

    mean: float
    interval: tuple[float, float] | None
    terms: int
    still_terms: int
    pixels: float


@dataclass(frozen=True)
class Spectrum(Record):
    """Of the embeddings of single frames; of a latent of patches every patch counts as a row.

    Attributes:
        dimensions, effective_rank: of all, and how many of them are used.
        singular_values: as shares of the largest.
        std_min, std_mean, std_max: over the dimensions.
    """

    dimensions: int
    effective_rank: float
    singular_values: list[float]
    std_min: float
    std_mean: float
    std_max: float


@dataclass(frozen=True)
class EppsPulley(Record):
    """The statistic of Epps and Pulley, dimension by dimension.

    Attributes:
        per_dimension: of some thousand dimensions at most, `"values"` in JSON.
        mean: over all.
        usual: 95 % quantile of as many Gaussian draws.
        share_usual: dimensions whose statistic is no larger.
    """

    per_dimension: list[float] = field(metadata=named("values"))
    mean: float
    usual: float
    share_usual: float


@dataclass(frozen=True)
class Normality(Record):
    """Of `n` embeddings as SIGReg sees them, and standardized."""

    n: int
    raw: EppsPulley
    standardized: EppsPulley


@dataclass(frozen=True)
class DistanceCorrelation(Record):
    """Spearman correlation of latent and true distance over `pairs` pairs, its bootstrap interval (95 %), and some of
    the distances themselves."""

    pairs: int
    spearman: float
    interval: tuple[float, float]
    latent: list[float]
    true: list[float]


@dataclass(frozen=True)
class Distances(Record):
    """What latent distances mean, for pairs of the same episode and of different ones; `unit` is of the true ones."""

    unit: str
    within_episode: DistanceCorrelation
    across_episodes: DistanceCorrelation

    def by_pairs(self) -> dict[str, DistanceCorrelation]:
        """Both, by what the pairs are."""
        return {"within episode": self.within_episode, "across episodes": self.across_episodes}


@dataclass(frozen=True)
class Dynamics(Record):
    """Open-loop errors, by what the model was told about the actions.

    Attributes:
        stretches: their number.
        errors: `"true"`, `"swapped"`, `"none"` and `"copy"` of the last frame, per imagined block.
        swapped_over_true, true_over_copy: ratios at the last block, `None` where one divides by 0.
        paired_test: of swapped against true actions there.
    """

    stretches: int
    errors: dict[str, Curve]
    swapped_over_true: float | None
    true_over_copy: float | None
    paired_test: PairedTest


@dataclass(frozen=True)
class Retrieval(Record):
    """Mean true distance of the nearest neighbour and of a random frame among other episodes, and their ratio; `None`
    where the environment knows no distance."""

    frames: int
    nearest: float | None
    random: float | None
    ratio: float | None


@dataclass(frozen=True)
class Precision(Record):
    """How far embeddings move when the model computes in bfloat16.

    Attributes:
        frames: how many were seen both ways.
        shift: the mean norm of the difference of a frame's two embeddings.
        spread: root mean square distance of the embeddings from their mean, in float32.
        ratio: `shift / spread`; `None` where all embeddings are one.
    """

    frames: int
    shift: float
    spread: float
    ratio: float | None


@dataclass(frozen=True)
class HealthResult(Result):
    """Health of a model on episodes of `env`; `sections_hash` is of the six sections from `straightness` on.

    `precision` is not hashed, because processors round differently; it is `None` of models that do not compute in
    bfloat16, and in files of versions that did not measure it.
    """

    kind = "health"

    env: str | None
    settings: HealthSettings
    straightness: Straightness
    spectrum: Spectrum
    normality: Normality
    distances: Distances | None
    dynamics: Dynamics
    retrieval: Retrieval
    sections_hash: str
    model: ModelFacts
    dataset: DatasetFacts
    versions: dict[str, str]
    hardware: dict[str, Any]
    precision: Precision | None = absent()
