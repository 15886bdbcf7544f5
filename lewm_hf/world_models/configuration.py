"""What the configuration of every world model of this package holds."""

import dataclasses
import math
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from ..configuration_checks import (
    NOT_OURS,
    check_action_bounds,
    check_action_choices,
    check_action_rate,
    check_names,
    check_sizes,
    strict_reason,
)


class WorldModelPreTrainedConfig(PreTrainedConfig):
    """The fields that data path, planner and analyses read; subclasses are decorated with `strict` and add their own.

    Args:
        image_size: side of the square input in pixels.
        history_size: frames that a prediction looks at, at most; a training window holds one more.
        frameskip: environment steps between two frames; one action block holds `frameskip` actions.
        action_dim: size of one raw action.
        action_mean, action_std: float64 statistics of each raw action dimension (population std). `None` until a data
            set has filled them; planning refuses to run without them.
        action_statistics_source: the data set that they were measured on.
        action_low, action_high: bounds of each raw action dimension, where the data set states them: plans stay within.
        action_choices: where an action is no vector but one or several choices, how many values each has; a raw action
            is then their one-hot vectors side by side. `None` for continuous actions.
        actions_per_second: how many raw actions a second of the training episodes has, where they tell: the rate that a
            robot's loop has to run at.
    """

    image_size: int = 224
    num_channels: int = 3
    history_size: int = 3
    frameskip: int = 5
    action_dim: int = 2
    action_mean: list[float | int] | None = None
    action_std: list[float | int] | None = None
    action_statistics_source: str | None = None
    action_low: list[float | int] | None = None
    action_high: list[float | int] | None = None
    action_choices: list[int] | None = None
    actions_per_second: float | int | None = None

    @property
    def action_block_size(self) -> int:
        """Width of one action block: `frameskip * action_dim`."""
        return self.frameskip * self.action_dim

    @property
    def window_frames(self) -> int:
        """Frames of a training window."""
        return self.history_size + 1

    @classmethod
    def known_names(cls) -> set[str]:
        """Names that a config.json may hold without a word."""
        return {field.name for field in dataclasses.fields(cls)} | NOT_OURS | set(cls.attribute_map)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        name = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "this checkpoint"
        try:
            check_names(cls.known_names(), list(config_dict))
            return super().from_dict(config_dict, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(f"config.json of {name} is invalid: {strict_reason(error)}") from error
        except ValueError as error:
            raise ValueError(f"config.json of {name} is invalid: {error}") from error

    def validate_names(self) -> None:
        check_names(self.known_names(), list(vars(self)))

    def validate_interface(self) -> None:
        check_sizes(self, ("image_size", "num_channels", "history_size", "frameskip", "action_dim"))

    def validate_action_bounds(self) -> None:
        check_action_bounds(self.action_low, self.action_high, self.action_dim)
        check_action_choices(self.action_choices, self.action_dim)
        check_action_rate(self.actions_per_second)

    def validate_action_statistics(self) -> None:
        if (self.action_mean is None) != (self.action_std is None):
            raise ValueError("action_mean and action_std go together: give both or neither")
        for name in ("action_mean", "action_std"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != self.action_dim:
                raise ValueError(f"{name} has {len(values)} entries, but action_dim={self.action_dim}: they must agree")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name}={values} must be finite: recompute the statistics of the data set")
        if self.action_std is not None and min(self.action_std) < 0:
            raise ValueError(f"action_std={self.action_std} must not be negative")
