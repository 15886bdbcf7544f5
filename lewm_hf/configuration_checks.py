"""What every configuration of this package refuses, whatever model it is of."""

import difflib
import math
from collections.abc import Sequence

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

# A name this close to a field's is a slip of the pen, not a note of somebody's own: `difflib`'s ratio.
NEAR_MISS = 0.86
# What a config may ask for at most: a broken or hostile one must not take the machine's memory first.
MOST_LAYERS = 1000
LARGEST_SIZE = 1_000_000
MOST_PARAMETERS = 100_000_000_000
LARGEST_IMAGE = 16_384
# What transformers of several versions and the Hub keep in a config.json beside the fields.
NOT_OURS = frozenset(
    {
        "model_type", "name_or_path", "auto_map", "custom_pipelines", "torch_dtype", "attn_implementation",
        "output_attentions", "use_cache", "quantization_config", "tie_word_embeddings", "torchscript", "is_decoder",
        "add_cross_attention", "loss_type", "trust_remote_code",
    }
)  # fmt: skip


def strict_reason(error: StrictDataclassError) -> str:
    """What is wrong, out of a report of several lines: its last one."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ").removeprefix("TypeError: ")


def check_names(known: set[str], given: list[str]) -> list[str]:
    """Those of the `given` names that `known` lacks, less private ones.

    Raises:
        ValueError: where one is nearly a known name: the field that was meant would keep its default.
    """
    unknown = [name for name in given if name not in known and not name.startswith("_")]
    for name in unknown:
        if closest := difflib.get_close_matches(name, known, n=1, cutoff=NEAR_MISS):
            raise ValueError(f"unknown field {name!r}, the closest known one is {closest[0]!r}")
    return unknown


def check_sizes(config: PreTrainedConfig, names: tuple[str, ...]) -> None:
    """Refuses sizes below 1, and those that no model has.

    Raises:
        ValueError: naming the first.
    """
    for name in names:
        if not 1 <= getattr(config, name) <= LARGEST_SIZE:
            raise ValueError(f"{name}={getattr(config, name)} must be at least 1 and at most {LARGEST_SIZE:,}")


def check_extent(layers: int, parameters: int, image_size: int) -> None:
    """Refuses a model that could not be built anywhere, before anything is built.

    Raises:
        ValueError: naming what is too large.
    """
    if layers > MOST_LAYERS:
        raise ValueError(f"{layers:,} layers are more than the {MOST_LAYERS:,} that are allowed: the config is broken")
    if image_size > LARGEST_IMAGE:
        raise ValueError(f"image_size={image_size:,} is more than {LARGEST_IMAGE:,}: the config is broken")
    if parameters > MOST_PARAMETERS:
        raise ValueError(
            f"the sizes of this config make about {parameters:.1e} parameters, more than {MOST_PARAMETERS:.0e}: it is "
            "broken, compare it with the one that the weights were saved with"
        )


def check_action_bounds(low: Sequence[float] | None, high: Sequence[float] | None, action_dim: int) -> None:
    """Refuses bounds that no action of this dimension can keep.

    Raises:
        ValueError: where one is given alone, of another length, not finite, or above the other.
    """
    if (low is None) != (high is None):
        raise ValueError("action_low and action_high go together: give both or neither")
    if low is None or high is None:
        return
    for name, values in (("action_low", low), ("action_high", high)):
        if len(values) != action_dim:
            raise ValueError(f"{name} has {len(values)} entries, but action_dim={action_dim}: they must agree")
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"{name}={values} must be finite: omit both where an action has no bounds")
    if any(least > most for least, most in zip(low, high, strict=True)):
        raise ValueError(f"action_low={low} exceeds action_high={high}: no action lies between them")


def check_action_choices(choices: list[int] | None, action_dim: int) -> None:
    """Refuses choices that do not make up an action of this dimension.

    Raises:
        ValueError: naming both.
    """
    if choices is not None and (min(choices, default=0) < 1 or sum(choices) != action_dim):
        raise ValueError(
            f"action_choices={choices} must be numbers of values, at least 1 each, that add up to action_dim="
            f"{action_dim}: a raw action holds their one-hot vectors"
        )


def check_action_rate(rate: float | None) -> None:
    """Refuses a rate that no robot acts at.

    Raises:
        ValueError: naming it.
    """
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"actions_per_second={rate} must be a positive number: omit it where the rate is unknown")
