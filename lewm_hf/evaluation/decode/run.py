"""Imagination made visible: recorded frames, their embeddings decoded, and an open-loop rollout decoded beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...arguments_of import arguments_of
from ...measures.significance import band
from ...planning.world_model import check_imagines
from ..common.analysis import Analysis
from ..common.embeddings import portions, sample_stretches
from ..common.inputs import open_decoder
from ..common.outputs import clear
from ..common.provenance import model_fingerprint
from ..success.protocol import content_hash
from .arguments import DecodeArguments
from .report import draw_film, draw_strip, format_decoding, plot_decoding
from .result import DecodeResult, DecoderFacts, DecodeSettings, PixelErrors
from .strips import WAYS, Strips, render_strips, strip_metrics


@dataclass(frozen=True)
class Decoding:
    """What `decode` returns.

    Attributes:
        result: the content of `decode.json`.
        strips: the pictures of the stretches that are shown.
        files: PNG files written.
    """

    result: DecodeResult
    strips: Strips
    files: list[Path]


@arguments_of(DecodeArguments)
def decode(given: DecodeArguments) -> Decoding:
    """Encodes `history_size` frames of recorded episodes and rolls out open loop under the recorded actions.

    Errors are measured at 0, 1, 2, ... action blocks after the last known frame, beside those of showing that frame
    again ("copy") and of the decoder's background. The files are `decode.json`, `decode.png`, `strips/` and `films/`,
    the same moving.

    Returns:
        The result, and the strips that are shown.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is computed, where decoder, model and episodes do not
            belong together, no episode is long enough, or `out` holds the result of another question.
    """
    analysis = given.carry_out(DecodeAnalysis)
    return Decoding(analysis.found, analysis.strips, analysis.files)


class DecodeAnalysis(Analysis):
    """See `decode`.

    Attributes:
        strips: the pictures of the stretches that are shown.
        files: those of them that were written.
    """

    kind, title, result_type = "decode", "Decoded imagination", DecodeResult
    pictures = ("decode.png", "strips/*.png")
    found: DecodeResult
    strips: Strips

    def __init__(self, given: DecodeArguments):
        strips, steps, stretches, seed = given.strips, given.steps, given.stretches, given.seed
        for name, value, least in (
            ("strips", strips, 1), ("stretches", stretches, 2), ("steps", steps, 1), ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        self.inputs = given.open_inputs(given.episodes)
        agent = self.inputs.agent
        config = agent.model.config
        check_imagines(agent.model, "decode")
        self.decoder = open_decoder(given.decoder, agent, given.decoder_revision)
        horizon = steps // config.frameskip
        if horizon < 1:
            raise ValueError(f"steps={steps} are less than one action block of {config.frameskip} steps: ask for more")
        self.chosen = sample_stretches(
            self.inputs.episodes, max(strips, stretches), config.history_size + horizon, config.frameskip, seed
        )
        self.settings = DecodeSettings(
            stretches=len(self.chosen), context=config.history_size, frameskip=config.frameskip, seed=seed,
            steps=[config.frameskip * column for column in range(horizon + 1)],
        )  # fmt: skip
        self.facts = DecoderFacts(fingerprint=model_fingerprint(self.decoder), parameters=self.decoder.num_parameters())
        self.shown = np.linspace(0, len(self.chosen) - 1, min(strips, len(self.chosen))).astype(int)
        self.files: list[Path] = []

    def question(self) -> dict[str, Any]:
        decoder = {"decoder.fingerprint": self.facts.fingerprint}
        return {"settings": self.settings, **decoder, **self.inputs.question()}

    def run(self) -> DecodeResult:
        mine = []
        for part in portions(len(self.chosen))[self.ranks.share]:
            strips = render_strips(self.inputs, self.decoder, self.chosen[part])
            # Pictures of all stretches together may be larger than memory.
            mine.append(
                (strip_metrics(strips, self.decoder), strips[self.shown[_inside(self.shown, part)] - part.start])
            )
        metrics, shown = zip(*self.ranks.together(mine), strict=True)
        self.strips = Strips.joined(shown)
        errors = _errors(metrics)
        return DecodeResult(
            settings=self.settings, errors=errors, decoder=self.facts, **self.inputs.facts(),
            errors_hash=content_hash(errors),
        )  # fmt: skip

    @classmethod
    def text(cls, result: DecodeResult) -> str:
        return format_decoding(result)

    def draw(self, out: Path) -> None:
        clear(out, ("strips/*-episode-*.png", "films/*-episode-*.gif"))  # an earlier run may have drawn more
        for number, index in enumerate(self.shown):
            episode = self.inputs.episodes.episode_ids[self.chosen.episodes[index]]
            path = out / "strips" / f"{number:02d}-episode-{episode}.png"
            self.files.append(draw_strip(path, self.strips, number, f"episode {episode}"))
            film = out / "films" / f"{number:02d}-episode-{episode}.gif"
            draw_film(film, self.strips, number, f"episode {episode}")
        plot_decoding(out / "decode.png", self.found)


def _inside(shown: np.ndarray, part: slice) -> np.ndarray:
    return (part.start <= shown) & (shown < part.stop)


def _errors(metrics: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, PixelErrors]:
    """Means over stretches, of which each entry of `metrics` has some, and 95 % bands of the squared error."""
    found = {}
    for way in WAYS:
        whole = {name: np.concatenate([some[way][name] for some in metrics]) for name in metrics[0][way]}
        low, high = band(whole["mse"])
        means = {name: values.mean(0).tolist() for name, values in whole.items()}
        found[way] = PixelErrors(**means, mse_low=low.tolist(), mse_high=high.tolist())
    return found
