"""The content of `probe.json`."""

from dataclasses import dataclass
from typing import Any

from ...records import Record, Result, absent
from ..common.facts import DatasetFacts, ModelFacts


@dataclass(frozen=True)
class ProbeRow(Record):
    """One probe of one target from one representation. Scores are means over seeds, intervals over seeds too (95 %).

    Attributes:
        target, dimensions: what is predicted, and how many numbers it is.
        representation: `"encoder"` (the encoder's output, LeWM's CLS token), `"projected"` (what the planner works
            with), and the controls `"untrained encoder"` and `"pixel PCA"`.
        input: `"frame"`, or `"window"`: the frame and the two before it in the data set.
        probe: `"linear"` or `"mlp"`.
        train_frames, test_frames: of the first seed.
        mse: mean squared error of standardized values, over frames and dimensions; 1 for predicting the mean.
        mse_sd: standard deviation of a frame's error over test frames, as printed in the paper.
        r, r2: Pearson correlation and share of variance explained, means over dimensions.
        per_seed: the three scores of every seed.
    """

    target: str
    dimensions: int
    representation: str
    input: str
    probe: str
    train_frames: int
    test_frames: int
    mse: float
    mse_interval: tuple[float, float]
    mse_sd: float
    r: float
    r_interval: tuple[float, float]
    r2: float
    r2_interval: tuple[float, float]
    per_seed: dict[str, list[float]]


@dataclass(frozen=True)
class ProbeSettings(Record):
    """How was measured.

    Attributes:
        frames: their number.
        seeds: of splits and MLPs.
        train_share, split_by: how they were split.
        window: frames that a velocity is read from.
        mlp_steps: optimizer steps of an MLP.
        probes, controls: which were fitted, and whether controls were; earlier files do not say.
        sketched_to: width of random projections of latents that are larger.
    """

    frames: int
    seeds: list[int]
    train_share: float
    window: int
    mlp_steps: int
    split_by: str
    probes: list[str] | None = absent()
    controls: bool | None = absent()
    sketched_to: int | None = absent()


@dataclass(frozen=True)
class ProbeResult(Result):
    """What was read from embeddings of episodes of `env`: a row per target, representation, input and probe.

    Attributes:
        units: of the targets; those without one have `""`.
        rows_hash: of `rows`.
    """

    kind = "probe"

    settings: ProbeSettings
    env: str | None
    units: dict[str, str]
    rows: list[ProbeRow]
    rows_hash: str
    model: ModelFacts
    dataset: DatasetFacts
    versions: dict[str, str]
    hardware: dict[str, Any]
