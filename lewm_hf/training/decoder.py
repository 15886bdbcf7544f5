"""Training a decoder: the job that `accelerate launch training/train_decoder.py` and `lewm train-decoder` run."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..data.windows import WindowDataset
from ..evaluation.common.inputs import load_for, open_agent, open_inputs
from ..evaluation.common.provenance import latents_fingerprint
from ..image_processing_lewm import LeWMImageProcessor
from ..modeling_lewm_decoder import LeWMDecoder
from ..proprioception_lewm import check_pictures_alone
from .arguments import defaults_of
from .batches import WindowBatches
from .command import run_command
from .decoder_arguments import DecoderRecipe, parse_decoder_recipe
from .facts import content_fingerprint
from .job import Job
from .loop import fit
from .schedule import RunLength
from .wrapping import LossModule

FRAMES_AT_ONCE = 64


def train_decoder(recipe: DecoderRecipe) -> dict[str, Any]:
    """Trains a decoder; see `fit` for what it returns and raises."""
    return fit(recipe, DecoderJob(recipe))


def main(argv: Sequence[str] | None = None) -> int:
    """The command: `[recipe.yaml] [--key value ...]`; returns the exit status."""
    return run_command(lambda: train_decoder(parse_decoder_recipe(sys.argv[1:] if argv is None else argv)))


class DecoderLoss(LossModule):
    """A decoder's loss by name."""

    def forward(self, batch: dict[str, Tensor], step_inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.model(**batch).loss}


class DecoderJob(Job):
    """Single frames of recorded episodes: a frozen world model embeds them, the decoder paints them again."""

    name, unit = "lewm-decoder", "frame"

    def __init__(self, recipe: DecoderRecipe):
        self.recipe = recipe

    def open(self, accelerator: Accelerator) -> None:
        recipe, self.device, self.main = self.recipe, accelerator.device, accelerator.is_main_process
        self.share = accelerator.process_index, accelerator.num_processes
        agent = open_agent(recipe.model, None, recipe.model_revision, self.device)
        episodes = {
            split: load_for(agent, recipe.dataset, split, recipe.dataset_revision, recipe.columns)
            for split in ("train", "test")
        }
        train = episodes["train"]
        open_inputs(agent, train)  # refuses what does not belong together
        check_pictures_alone(agent.model, "a decoder's training")
        self.world_model = agent.model.requires_grad_(False)
        self.image_processor = agent.processor
        fingerprint = latents_fingerprint(self.world_model)
        self.config = recipe.config(self.world_model, fingerprint)
        # A window of one frame; the few rows behind an episode's last whole action block are left out.
        self.windows, self.heldout = (
            WindowDataset(part, self.world_model.config, num_frames=1) for part in episodes.values()
        )
        self.steps_per_epoch = self.order(0, 0).per_epoch / recipe.gradient_accumulation_steps
        self.length = RunLength.of(self.steps_per_epoch, recipe.max_steps)
        self.values, self.defaults = dataclasses.asdict(recipe), defaults_of(DecoderRecipe)
        self.facts = {
            "world_model": fingerprint, "train_fingerprint": content_fingerprint(train),
            "train_frames": len(self.windows),
        }  # fmt: skip
        self.origin = {"env_id": train.env_id, "world_model_source": agent.source}

    def build(self) -> nn.Module:
        self.model = self.judged = LeWMDecoder(self.config)
        self.num_parameters = self.model.num_parameters()
        self.as_labels = LeWMImageProcessor(
            image_size=self.config.image_size, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)
        ).normalize
        return DecoderLoss(self.model)

    def decode(self) -> None:
        for windows in (self.windows, self.heldout):
            windows.keep_frames(self.recipe.frame_cache)

    def begin(self, fresh: bool) -> None:
        chunks = list(self.pictures(self.windows, self.recipe.background_frames))
        background = sum(self.as_labels(chunk).sum(0) for chunk in chunks) / sum(map(len, chunks))
        if fresh:
            self.model.background.pixels.data = background.clone()
        self.background = background.to(self.device)

    def order(self, start: int, stop: int) -> WindowBatches:
        return WindowBatches(len(self.windows), self.recipe.batch_size, self.recipe.seed, start, stop, *self.share)

    def prepared(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        for batch in batches:
            yield self.embedded(batch["pixel_values"][:, 0].to(self.device, non_blocking=True))

    @torch.no_grad()
    def embedded(self, frames: Tensor) -> dict[str, Tensor]:
        """uint8 frames `(n, H, W, 3)` -> frozen embeddings `(n, D)` and labels `(n, 3, H, W)` in [0, 1]."""
        pixels = self.image_processor.normalize(frames)[:, None]
        return {"embeddings": self.world_model.encode(pixels)[:, 0].flatten(1), "labels": self.as_labels(frames)}

    def pictures(self, windows: WindowDataset, count: int) -> Iterator[Tensor]:
        """`count` frames from all over a data set, uint8 `(n, H, W, 3)` each."""
        rows = np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int)
        yield from windows.batch(rows)["pixel_values"][:, 0].split(FRAMES_AT_ONCE)

    @torch.no_grad()
    def judge(self, step: int) -> dict[str, float]:
        """The error on held-out frames, beside that of the mean picture."""
        if not self.main:
            return {}
        self.model.eval()
        errors, blank = [], []
        for frames in self.pictures(self.heldout, self.recipe.eval_frames):
            batch = self.embedded(frames.to(self.device))
            painted = self.model(batch["embeddings"]).pixels.float()
            errors.append((painted - batch["labels"]).square().mean((1, 2, 3)))
            blank.append((self.background - batch["labels"]).square().mean((1, 2, 3)))
        self.model.train()
        mse, mean_picture = float(torch.cat(errors).mean()), float(torch.cat(blank).mean())
        return {"mse": mse, "psnr": -10 * math.log10(max(mse, 1e-10)), "over_mean_picture": mse / mean_picture}

    def goodness(self, record: dict[str, Any]) -> tuple[float]:
        return (-record["eval/mse"],)
