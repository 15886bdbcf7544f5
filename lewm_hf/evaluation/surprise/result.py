"""The content of `surprise.json`."""

from dataclasses import dataclass
from typing import Any

from ...measures.significance import PairedTest
from ...records import Record, Result
from ..common.facts import Curve, ModelFacts


@dataclass(frozen=True)
class SurpriseRow(Record):
    """One variant of one episode.

    Attributes:
        episode: its number; the three variants of an episode are the same until the event.
        variant: `"unperturbed"`, `"color"` or `"teleport"`.
        before: mean surprise at frames before the event.
        at_event: surprise at the first frame that shows the change.
        around_event: mean over the predictions whose window (context and target) holds frames of both sides.
        curve: surprise at every frame from number `history_size` on.
    """

    episode: int
    variant: str
    before: float
    at_event: float
    around_event: float
    curve: list[float]


@dataclass(frozen=True)
class SurpriseEnv(Record):
    """Short name of the environment, and how it was made."""

    name: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class SurpriseSettings(Record):
    """How was measured.

    Attributes:
        trajectories: episodes per variant.
        steps, event_step: environment steps of an episode, and the one with the event.
        frameskip, context: of the model.
        seed: of starts, policies and events.
        policy: who acted.
        color, teleport: the events in words.
    """

    trajectories: int
    steps: int
    event_step: int
    frameskip: int
    context: int
    seed: int
    policy: str
    color: str
    teleport: str


@dataclass(frozen=True)
class Detection(Record):
    """Perturbed against unperturbed episodes.

    Attributes:
        unperturbed_mean, perturbed_mean, ratio: surprise; no ratio to 0.
        paired_test: of perturbed against unperturbed.
        roc_auc, roc_auc_interval: of telling them apart, and a bootstrap interval (95 %), `None` where no resample
            differs.
    """

    unperturbed_mean: float
    perturbed_mean: float
    ratio: float | None
    paired_test: PairedTest
    roc_auc: float
    roc_auc_interval: tuple[float, float] | None


@dataclass(frozen=True)
class SurpriseResult(Result):
    """What was noticed.

    Attributes:
        events: by event (`"color"`, `"teleport"`), at the event and around it (`"at_event"`, `"around_event"`).
        curves: mean surprise at every frame, by variant.
        rows: three per episode; `rows_hash` is of them.
    """

    kind = "surprise"

    env: SurpriseEnv
    settings: SurpriseSettings
    events: dict[str, dict[str, Detection]]
    curves: dict[str, Curve]
    rows: list[SurpriseRow]
    rows_hash: str
    model: ModelFacts
    versions: dict[str, str]
    hardware: dict[str, Any]
