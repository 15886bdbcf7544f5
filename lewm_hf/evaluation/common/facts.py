"""What every result says about the model, the episodes and the machine."""

from dataclasses import dataclass, field
from typing import Any

from ...records import Record, named


@dataclass(frozen=True)
class ModelFacts(Record):
    """The model that was looked at.

    Attributes:
        source, revision: folder or Hub id and its commit, or the class name of a model in memory.
        class_name: of the model, `"class"` in JSON.
        parameters: their number.
        fingerprint: see `model_fingerprint`.
        trained_on: environment id, where the checkpoint says so.
        image_size, history_size, frameskip, action_dim, action_mean, action_std: of its configuration.
    """

    source: str
    revision: str | None
    class_name: str = field(metadata=named("class"))
    parameters: int
    fingerprint: str
    trained_on: str | None
    image_size: int
    history_size: int
    frameskip: int
    action_dim: int
    action_mean: Any
    action_std: Any


@dataclass(frozen=True, kw_only=True)
class DatasetFacts(Record):
    """The episodes that an analysis took.

    Attributes:
        source, revision: folder or Hub id and its commit, `None` for episodes in memory.
        split: `"train"` or `"test"`.
        env: their environment's id, `None` for recordings that name none.
        episodes: their number.
        fingerprint: see `dataset_fingerprint`.
    """

    source: str | None
    revision: str | None = None
    split: str | None
    env: str | None
    episodes: int
    fingerprint: str


@dataclass(frozen=True)
class Curve(Record):
    """A mean and its 95 % band, a number per step."""

    mean: list[float]
    low: list[float]
    high: list[float]
