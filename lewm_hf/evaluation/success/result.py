"""The content of `results.json`."""

from dataclasses import dataclass
from typing import Any

from ...measures.intervals import McNemar
from ...records import Record, Result, absent
from ..common.facts import ModelFacts


@dataclass(frozen=True)
class Rate(Record):
    """Number, successes, their share in [0, 1], and its 95 % Wilson interval."""

    n: int
    successes: int
    rate: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SeedRate(Rate):
    """The success of one seed, and the rate of the random policy on the same pairs."""

    seed: int
    random_rate: float | None = absent()


@dataclass(frozen=True)
class EnvFacts(Record):
    """Where was acted.

    Attributes:
        id, kwargs: of the environment.
        success_rule: what counts as success.
        distance_unit: of distances from the goal.
        goals, not_comparable, latent_threshold: see `Judging`, for environments that do not know their goals.
    """

    id: str
    kwargs: dict[str, Any]
    success_rule: str
    distance_unit: str
    goals: str | None = absent()
    not_comparable: list[str] | None = absent()
    latent_threshold: float | None = absent()


@dataclass(frozen=True)
class PairsOrigin(Record):
    """The episodes behind the pairs.

    Attributes:
        source, revision: of those that were opened, `None` where the pairs came alone.
        split, fingerprint: that the pairs were drawn from.
        first_frame, goal_frame: `"stored"` or `"rendered"`: what the agent was shown.
    """

    source: str | None
    revision: str | None
    split: str
    fingerprint: str
    first_frame: str
    goal_frame: str


@dataclass(frozen=True)
class ManifestFacts(Record):
    """The pairs of a seed: their number and hash, and how many the data set held (see `PairCounts`)."""

    seed: int
    n: int
    hash: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Distinct(Record):
    """Different pairs and episodes: seeds may draw the same ones."""

    pairs: int
    episodes: int


@dataclass(frozen=True)
class Share(Record):
    """How many, and their share of all."""

    n: int
    share: float


@dataclass(frozen=True)
class PlanningFacts(Record):
    """How was planned.

    Attributes:
        plans, seconds_per_plan: made, and the time of one (of a pair, not of a batch).
        num_envs: pairs side by side.
        context_frames: that a decision looks at.
        action_bounds: `low`, `high` and their `source` where actions are clipped.
    """

    plans: int
    seconds_per_plan: float
    num_envs: int
    context_frames: int
    action_bounds: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class EvaluationResult(Result):
    """Planning success beside its floors, and everything it depended on.

    Attributes:
        protocol: its values as they were run, its label and hash.
        policy, planner: who acted, and the values, label and hash of the planner.
        env, model, dataset: where, who, and the episodes behind the pairs.
        pairs: `"drawn"`, `"given"` or `"shipped"`.
        manifests: a set of pairs per seed.
        success: over all seeds.
        floors, excess: of blind policies on the same pairs (`"random"`, `"zero_action"`), and how much more the agent
            solves; empty where they were not run.
        mcnemar_against_random: paired test against the random policy.
        distinct: how many of the pairs are different.
        solved_at_start: before the first action.
        mean_steps_to_success: of the solved ones.
        per_seed: success by seed.
        films: how imagined states are shown in films: `"nearest frames"` or `"decoded"`.
        rows_hash: of `episodes.jsonl`, see `rows_hash`.
        outcomes_hash: see `outcomes_hash`; results of earlier versions have none.
        finished: time, ISO 8601; `wall_time` in seconds.
    """

    format = 3

    protocol: dict[str, Any]
    policy: str
    planner: dict[str, Any]
    env: EnvFacts
    pairs: str
    model: ModelFacts
    dataset: PairsOrigin
    manifests: list[ManifestFacts]
    success: Rate
    floors: dict[str, Rate]
    excess: dict[str, float]
    mcnemar_against_random: McNemar | None = absent()
    distinct: Distinct
    solved_at_start: Share
    mean_steps_to_success: float | None
    per_seed: list[SeedRate]
    planning: PlanningFacts
    rows_hash: str
    outcomes_hash: str | None = absent()
    finished: str
    versions: dict[str, str]
    hardware: dict[str, Any]
    films: str
    wall_time: float

    @classmethod
    def head(cls) -> dict[str, Any]:
        return {"format": cls.format}

    @property
    def acts(self) -> str:
        """Who acted, in a word: the label of the planner, or the name of the policy that is none."""
        return self.planner["label"] if self.policy == "planner" else self.policy
