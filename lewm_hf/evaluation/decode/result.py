"""The content of `decode.json`."""

from dataclasses import dataclass
from typing import Any

from ...records import Record, Result
from ..common.facts import DatasetFacts, ModelFacts


@dataclass(frozen=True)
class DecodeSettings(Record):
    """How was measured.

    Attributes:
        stretches: that the errors are measured on.
        context, frameskip: of the model.
        seed: of the stretches.
        steps: environment steps after the last known frame, of every column.
    """

    stretches: int
    context: int
    frameskip: int
    seed: int
    steps: list[int]


@dataclass(frozen=True)
class PixelErrors(Record):
    """Means over the stretches, a number per column of the settings' `steps`; pixels are in [0, 1].

    Attributes:
        mse, mae: mean squared and absolute error.
        psnr: in dB.
        mse_low, mse_high: the 95 % band of `mse`.
    """

    mse: list[float]
    mae: list[float]
    psnr: list[float]
    mse_low: list[float]
    mse_high: list[float]


@dataclass(frozen=True)
class DecoderFacts(Record):
    """The decoder: see `model_fingerprint`, and the number of its parameters."""

    fingerprint: str
    parameters: int


@dataclass(frozen=True)
class DecodeResult(Result):
    """Pixel errors by what is shown instead of the recorded frame: `"decoded"`, `"imagined"`, `"copy"` (of the last
    known frame) and `"background"`; `errors_hash` is of `errors`."""

    kind = "decode"

    settings: DecodeSettings
    errors: dict[str, PixelErrors]
    decoder: DecoderFacts
    model: ModelFacts
    dataset: DatasetFacts
    versions: dict[str, str]
    hardware: dict[str, Any]
    errors_hash: str
