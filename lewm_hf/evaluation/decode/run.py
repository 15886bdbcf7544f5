"""Imagination made visible: recorded frames, their embeddings decoded, and an open-loop rollout decoded beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...image_processing_lewm import LeWMImageProcessor
from ...measures.pixels import pixel_metrics
from ...measures.significance import band
from ...modeling_lewm_decoder import LeWMDecoder
from ...planning.world_model import check_imagines
from ..common.analysis import Analysis
from ..common.embeddings import Stretches, blocks_of, encode_rows, portions, sample_stretches
from ..common.inputs import Inputs, open_decoder, open_inputs
from ..common.outputs import clear
from ..common.provenance import model_fingerprint
from ..common.ranks import ALONE, Ranks
from ..success.protocol import content_hash
from .report import draw_film, draw_strip, format_decoding, plot_decoding
from .result import DecodeResult, DecoderFacts, DecodeSettings, PixelErrors

WAYS = ("decoded", "imagined", "copy", "background")


@dataclass(frozen=True)
class Strips:
    """Pictures of stretches, `(n, columns, H, W, 3)` uint8, at `steps` environment steps after the last known frame.

    Attributes:
        real: recorded.
        decoded: embeddings of the recorded frames, decoded.
        imagined: embeddings of the rollout, decoded; the first is that of the last known frame.
    """

    steps: tuple[int, ...]
    real: np.ndarray
    decoded: np.ndarray
    imagined: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Strips":
        return Strips(self.steps, self.real[chosen], self.decoded[chosen], self.imagined[chosen])

    @classmethod
    def joined(cls, parts: Sequence["Strips"]) -> "Strips":
        """One after the other."""
        pictures = zip(*((part.real, part.decoded, part.imagined) for part in parts), strict=True)
        return cls(parts[0].steps, *map(np.concatenate, pictures))


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


def decode(
    model: Any,
    decoder: Any,
    episodes: Any,
    *,
    strips: int = 8,
    steps: int = 35,
    stretches: int = 128,
    seed: int = 0,
    split: str = "test",
    out: str | Path | None = None,
    overwrite: bool = False,
    processor: Any = None,
    revision: str | None = None,
    episodes_revision: str | None = None,
    decoder_revision: str | None = None,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
) -> Decoding:
    """Encodes `history_size` frames of recorded episodes and rolls out open loop under the recorded actions.

    Errors are measured at 0, 1, 2, ... action blocks after the last known frame, beside those of showing that frame
    again ("copy") and of the decoder's background.

    Args:
        model: folder, Hub id, or a world model in eval mode (then `processor` is needed).
        decoder: folder or Hub id of a `LeWMDecoder`, or one in memory.
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which `split` is loaded.
        strips: how many stretches are drawn.
        steps: environment steps that are imagined, rounded down to whole action blocks.
        stretches: how many stretches the errors are measured on.
        seed: of the stretches.
        out: folder for `decode.json`, `decode.png`, `strips/` and `films/`, the same moving. Default: nothing is
            written.
        overwrite: replace the result of another question that `out` holds.
        revision, episodes_revision, decoder_revision: of Hub checkpoints and the data set.
        device: default: the accelerator, else the CPU.
        ranks: processes that divide the stretches, each of which calls this; all get the result, the main one writes.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is computed, where decoder, model and episodes do not
            belong together, no episode is long enough, or `out` holds the result of another question.
    """
    analysis = DecodeAnalysis.carry_out(
        model, decoder, episodes, strips=strips, steps=steps, stretches=stretches, seed=seed,
        decoder_revision=decoder_revision, split=split, processor=processor, revision=revision,
        episodes_revision=episodes_revision, device=device, out=out, overwrite=overwrite, ranks=ranks,
    )  # fmt: skip
    return Decoding(analysis.found, analysis.strips, analysis.files)


class DecodeAnalysis(Analysis):
    """Arguments as those of `decode`.

    Attributes:
        strips: the pictures of the stretches that are shown.
        files: those of them that were written.
    """

    kind, title, result_type = "decode", "Decoded imagination", DecodeResult
    pictures = ("decode.png", "strips/*.png")
    found: DecodeResult
    strips: Strips

    def __init__(
        self,
        model: Any,
        decoder: Any,
        episodes: Any,
        *,
        strips: int = 8,
        steps: int = 35,
        stretches: int = 128,
        seed: int = 0,
        decoder_revision: str | None = None,
        **opening: Any,
    ):
        for name, value, least in (
            ("strips", strips, 1), ("stretches", stretches, 2), ("steps", steps, 1), ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        self.inputs = open_inputs(model, episodes, **opening)
        agent = self.inputs.agent
        config = agent.model.config
        check_imagines(agent.model, "decode")
        self.decoder = open_decoder(decoder, agent, decoder_revision)
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
            mine.append((_metrics(strips, self.decoder), strips[self.shown[_inside(self.shown, part)] - part.start]))
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


@torch.no_grad()
def render_strips(inputs: Inputs, decoder: LeWMDecoder, stretches: Stretches) -> Strips:
    """Decodes stretches of `history_size + horizon` frames; columns are 0 to `horizon` blocks after the last context
    frame."""
    model, episodes = inputs.agent.model, inputs.episodes
    history, device = model.config.history_size, next(model.parameters()).device
    latents = encode_rows(model, inputs.agent.processor, episodes, stretches.rows)["embeddings"]
    blocks = blocks_of(stretches, model.config)
    size = decoder.config.image_size
    resize = LeWMImageProcessor(image_size=size, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)).normalize
    known = latents[:, :history].to(device)
    executed = blocks[:, : history - 1].to(device) if history > 1 else None
    rollout = model.rollout(known, blocks[:, None, history - 1 :].to(device), executed)[:, 0]
    rows = stretches.rows[:, history - 1 :]
    real = (resize(torch.from_numpy(episodes.frames(rows.ravel()))) * 255).round_().to(torch.uint8).movedim(1, -1)
    return Strips(
        steps=tuple(model.config.frameskip * column for column in range(rows.shape[1])),
        real=real.unflatten(0, rows.shape).numpy(),
        decoded=decoder.pictures(latents[:, history - 1 :].flatten(2).to(device)).cpu().numpy(),
        imagined=decoder.pictures(torch.cat([known[:, -1:], rollout], 1).flatten(2)).cpu().numpy(),
    )


def _inside(shown: np.ndarray, part: slice) -> np.ndarray:
    return (part.start <= shown) & (shown < part.stop)


def _metrics(strips: Strips, decoder: LeWMDecoder) -> dict[str, dict[str, np.ndarray]]:
    """Pixel errors `(n, columns)` by name, by what is shown instead of the real frame."""
    background = (decoder.background.pixels.detach().float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    shown: Mapping[str, np.ndarray] = {
        "decoded": strips.decoded,
        "imagined": strips.imagined,
        "copy": np.broadcast_to(strips.real[:, :1], strips.real.shape),
        "background": np.broadcast_to(background.movedim(0, -1).numpy(), strips.real.shape),
    }
    return {way: pixel_metrics(shown[way], strips.real) for way in WAYS}


def _errors(metrics: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, PixelErrors]:
    """Means over stretches, of which each entry of `metrics` has some, and 95 % bands of the squared error."""
    found = {}
    for way in WAYS:
        whole = {name: np.concatenate([some[way][name] for some in metrics]) for name in metrics[0][way]}
        low, high = band(whole["mse"])
        means = {name: values.mean(0).tolist() for name, values in whole.items()}
        found[way] = PixelErrors(**means, mse_low=low.tolist(), mse_high=high.tolist())
    return found
