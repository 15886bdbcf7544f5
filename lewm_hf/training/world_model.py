"""Training a world model: the job that `accelerate launch training/train.py` and `lewm train` run."""

import copy
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..data.episodes import EpisodeData, load_episodes
from ..data.proprioception import measured
from ..data.windows import WindowDataset
from ..image_processing_lewm import LeWMImageProcessor
from ..proprioception_lewm import size_of
from ..sigreg import sigreg_bounds
from ..world_models.registry import find_world_model
from .arguments import TrainingRecipe, parse_recipe, recipe_defaults, recipe_values
from .batch_norm import recalibrate_batch_norm
from .batches import WindowBatches, loading
from .checkpoints import RunDirectory
from .command import run_command
from .facts import content_fingerprint
from .frozen_tokens import TokenCache, TokenWindows
from .job import Job
from .loop import fit
from .monitors import embedding_monitors, heldout_metrics
from .parts import freeze_parts, parameter_groups
from .planning_success import PlanningSuccess
from .precision import encoder_in_bf16
from .schedule import RunLength
from .starting_point import StartingPoint
from .wrapping import LossModule

logger = logging.getLogger(__name__)

Evaluate = Callable[[PreTrainedModel, int], dict[str, float]]


def train(recipe: TrainingRecipe, config: PreTrainedConfig, evaluate: Evaluate | None = None) -> dict[str, Any]:
    """Trains a world model; see `fit` for what it returns and raises.

    Args:
        recipe, config: see `parse_recipe`; the config's action statistics are measured on the data set.
        evaluate: judges a model in evaluation mode at a step, on the main process; its key "success" decides what
            becomes best/, without it the held-out prediction loss does. Default: planning on `recipe.eval_pairs`
            problems.
    """
    return fit(recipe, WorldModelJob(recipe, config, evaluate))


def main(argv: Sequence[str] | None = None) -> int:
    """The command: `[recipe.yaml] [--key value ...]`; returns the exit status."""
    return run_command(lambda: train(*parse_recipe(sys.argv[1:] if argv is None else argv)))


class WorldModelLosses(LossModule):
    """A world model's `losses` as a forward.

    Args:
        model: the world model.
        freeze: names of its parts that stay as they are, see `parts`.
    """

    def __init__(self, model: nn.Module, freeze: Sequence[str] = ()):
        super().__init__(model)
        self._frozen = freeze_parts(model, freeze)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def forward(self, batch: dict[str, Tensor], step_inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.model.losses(batch, step_inputs)


class WorldModelJob(Job):
    """Windows of recorded episodes, any world model's losses, planning as the judge."""

    name, unit = "lewm", "window"

    def __init__(self, recipe: TrainingRecipe, config: PreTrainedConfig, evaluate: Evaluate | None = None):
        self.recipe, self.config, self.evaluate = recipe, config, evaluate

    def open(self, accelerator: Accelerator) -> None:
        recipe, self.device, self.main = self.recipe, accelerator.device, accelerator.is_main_process
        lengths = recipe.max_steps, recipe.schedule_epochs, recipe.stop_epoch
        RunLength.of(1.0, *lengths)  # refused before a data set is fetched, whose epochs tell the steps
        saved = RunDirectory(recipe.output_dir).progress() if recipe.resume else None
        self.start = None
        if recipe.init_from and saved is None:
            self.start = StartingPoint.open(recipe.init_from, self.config, recipe.init_from_revision)
        self.share, self.main_first = (
            (accelerator.process_index, accelerator.num_processes), accelerator.main_process_first
        )  # fmt: skip
        episodes = {
            split: load_episodes(
                recipe.dataset, split, recipe.dataset_revision, **recipe.columns, image_size=self.config.image_size
            )
            for split in ("train", "test")
        }
        train = episodes["train"]
        config = with_proprioception(with_action_statistics(self.config, train), train)
        if recipe.init_from and self.start and size_of(config) != size_of(self.config):  # which only the data set tells
            self.start = StartingPoint.open(recipe.init_from, config, recipe.init_from_revision)
        if self.start and self.main:
            self.start.tell_of_another_rate(config)
        self.config = config
        self.goal_blocks = config.actor_max_blocks if getattr(config, "actor_weight", 0) else None
        self.windows, self.heldout = (
            WindowDataset(part, config, goal_blocks=self.goal_blocks) for part in episodes.values()
        )
        self.favored = None
        if recipe.moving_share:
            self.favored = self.windows.moving(recipe.moving_columns, recipe.moving_threshold)
        accumulation = recipe.gradient_accumulation_steps
        self.steps_per_epoch = self.order(0, 0).per_epoch / accumulation
        self.length = RunLength.of(self.steps_per_epoch, *lengths)
        if self.evaluate is None and recipe.eval_pairs and train.env_id is None:
            logger.warning("%s names no environment to plan in: models are judged by prediction loss", recipe.dataset)
        elif self.evaluate is None and recipe.eval_pairs and self.main:
            self.evaluate = PlanningSuccess(recipe, config, episodes)
        self.values, self.defaults = recipe_values(recipe, config), recipe_defaults(recipe.model_type)
        self.origin = {}
        self.facts = {
            "env_id": train.env_id, "env_kwargs": train.env_kwargs, "train_fingerprint": content_fingerprint(train),
            "train_windows": len(self.windows), "encoder_in_bf16": recipe.precision == "bf16_encoder",
        }  # fmt: skip
        if recipe.init_from:
            self.facts["base_model"] = self.start.facts if self.start else (saved or {}).get("base_model")
        self.remark = f", learning rate laid out for {self.length.schedule_steps:,}"
        self.remark += self.start.remark if self.start else ""
        self.remark += f"; frozen: {', '.join(recipe.freeze)}" if recipe.freeze else ""
        if getattr(config, "sigreg_weight", 0) > 0 and hasattr(config, "sigreg_knots"):
            gaussian, collapsed = sigreg_bounds(config, recipe.batch_size)
            self.remark += f"; SIGReg is {gaussian:.2f} on Gaussian embeddings, {collapsed:.1f} on collapsed ones"
        if accumulation > 1:
            logger.warning(
                "gradient_accumulation_steps=%d: SIGReg compares each batch of %d windows with a Gaussian by itself, "
                "so this is not the same as batch_size=%d",
                accumulation, recipe.batch_size, accumulation * recipe.batch_size,
            )  # fmt: skip

    def build(self) -> nn.Module:
        _, kind = find_world_model(self.recipe.model_type)
        self.model = kind(self.config)
        seen = self.windows.episodes
        self.image_processor = LeWMImageProcessor(image_size=self.config.image_size, fit=seen.fit, cameras=seen.cameras)
        self.num_parameters = self.model.num_parameters()
        return WorldModelLosses(self.model, self.recipe.freeze)

    def parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        return parameter_groups(self.model, self.recipe.lr_factor)

    def decode(self) -> None:
        if getattr(self.config, "backbone", None):
            # A frozen backbone sees every frame once; what is kept are its tokens.
            self.windows, self.heldout = (self._tokens(windows) for windows in (self.windows, self.heldout))
            return
        for windows in (self.windows, self.heldout):
            windows.keep_frames(self.recipe.frame_cache)

    def _tokens(self, windows: WindowDataset) -> TokenWindows:
        with self.main_first():
            model = self.model.to(self.device).eval()
            tokens = TokenCache(windows.episodes, model, self.image_processor, progress=self.main)
        return TokenWindows(windows.episodes, self.config, tokens, goal_blocks=self.goal_blocks)

    def begin(self, fresh: bool) -> None:
        if fresh and self.start:
            self.start.fill(self.model)
            self.start = None  # its weights need no more memory
        elif fresh:
            initialize_from_data(self.model, self.windows, self.image_processor)
        # Is evaluated and saved; training never sees what happens to it.
        self.judged = copy.deepcopy(self.model).to(self.device)
        if self.recipe.precision == "bf16_encoder":
            encoder_in_bf16(self.model, self.device)

    def order(self, start: int, stop: int, seed: int | None = None) -> WindowBatches:
        recipe = self.recipe
        return WindowBatches(
            len(self.windows), recipe.batch_size, recipe.seed if seed is None else seed, start, stop, *self.share,
            self.favored, recipe.moving_share,
        )  # fmt: skip

    def prepared(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        for batch in batches:
            batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
            for name in ("pixel_values", "goal_pixel_values"):
                if name in batch:  # moved as uint8: a quarter of the traffic
                    batch[name] = self.image_processor.normalize(batch[name])
            yield batch

    def step_inputs(self, number: int) -> dict[str, Tensor]:
        inputs = self.model.step_inputs(self.recipe.seed, number)
        return {name: value.to(self.device, non_blocking=True) for name, value in inputs.items()}

    def watch(self, losses: dict[str, Tensor], scalars: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
        embeddings = accelerator.gather(losses["embeddings"].detach())
        return embedding_monitors(embeddings, scalars.get("prediction_loss"))

    def judge(self, step: int) -> dict[str, float]:
        """Gives a copy fresh BatchNorm statistics, and asks for held-out losses and for planning success."""
        recipe, judged = self.recipe, self.judged
        judged.load_state_dict(self.model.state_dict())
        order = self.order(0, recipe.recalibration_batches, seed=recipe.seed + 1)
        with loading(self.windows, order, recipe.num_workers, self.device) as batches:
            frozen = [judged.get_submodule(name) for name in recipe.freeze]
            recalibrate_batch_norm(judged, ((batch,) for batch in self.prepared(batches)), all_losses, frozen)
        judged.eval()
        if not self.main:
            return {}
        count = min(len(self.heldout), recipe.eval_batches * recipe.batch_size)
        rows = np.linspace(0, len(self.heldout) - 1, count).astype(int)
        chunks = [chunk.tolist() for chunk in np.array_split(rows, math.ceil(count / recipe.batch_size))]
        with loading(self.heldout, chunks, recipe.num_workers, self.device) as batches:
            metrics = heldout_metrics(judged, self.prepared(batches))
        return metrics | (self.evaluate(judged, step) if self.evaluate else {})

    def goodness(self, record: dict[str, Any]) -> tuple[float, float]:
        """Planning success first: prediction loss says little about it (VIScore, arXiv 2608.11174)."""
        return record.get("eval/success", 0.0), -record.get("eval/prediction_loss", record.get("eval/loss", math.inf))


def with_action_statistics(config: PreTrainedConfig, episodes: EpisodeData) -> PreTrainedConfig:
    """The config with the data set's action statistics in it, and its action bounds and rate where it states them.

    Raises:
        ValueError: where the actions have another dimension than the model.
    """
    if episodes.action_dim != config.action_dim:
        raise ValueError(
            f"the actions of {episodes.name} have {episodes.action_dim} dimensions, but the recipe says action_dim="
            f"{config.action_dim}: add --action_dim {episodes.action_dim}"
        )
    mean, std = episodes.action_statistics()
    name = Path(episodes.name).name if Path(episodes.name).is_dir() else episodes.name
    measured: dict[str, Any] = {"action_mean": mean, "action_std": std, "action_statistics_source": name}
    measured["actions_per_second"] = episodes.fps * episodes.every if episodes.fps else None
    if episodes.action_bounds is not None and all(np.isfinite(bound).all() for bound in episodes.action_bounds):
        low, high = episodes.action_bounds
        measured |= {"action_low": low.tolist(), "action_high": high.tolist()}
    if episodes.action_choices is not None:
        measured["action_choices"] = episodes.action_choices
    return type(config)(**(config.to_dict() | measured))


def with_proprioception(config: PreTrainedConfig, episodes: EpisodeData) -> PreTrainedConfig:
    """The config with size and statistics of the columns that it names as proprioception, measured on these episodes.

    Raises:
        ValueError: where they have no such columns, or these are not as many numbers as the config says.
    """
    keys, size = getattr(config, "proprioception_key", None), size_of(config)
    if not keys:
        if size:
            raise ValueError(
                f"proprioception_size={size}, but nothing names the columns: add --proprioception_key, which measures "
                "their size"
            )
        return config
    found = measured(episodes, keys)
    if size not in (0, found["proprioception_size"]):
        raise ValueError(
            f"proprioception_key={keys} are {found['proprioception_size']} numbers in {episodes.name}, but "
            f"proprioception_size={size}: name the columns that the model was made for, or leave the size away"
        )
    return type(config)(**(config.to_dict() | found))


def initialize_from_data(model: PreTrainedModel, windows: WindowDataset, image_processor: LeWMImageProcessor) -> None:
    """Lets an encoder that wants to see frames before it starts see some, the same ones on every rank."""
    encoder = getattr(model, "encoder", None)
    if encoder is not None and hasattr(encoder, "initialize_from_data"):
        rows = np.linspace(0, windows.episodes.num_rows - 1, 128).astype(int)
        frames = torch.from_numpy(windows.episodes.frames(rows))
        encoder.initialize_from_data(image_processor.normalize(frames))


def all_losses(model: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    """Runs every part that training runs, BatchNorms of optional heads included."""
    model.losses(batch, model.step_inputs(0, 0))
