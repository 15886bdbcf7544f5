"""Trains a LeWM world model.

    accelerate launch training/train.py training/recipes/tworoom.yaml --output_dir runs/tworoom
    accelerate launch training/train.py training/recipes/tworoom.yaml --output_dir runs/tworoom --resume

Every key of the recipe (`lewm_hf.training.arguments.TrainingRecipe`) and of the model (`LeWMConfig`) can be given on
the command line too. The folder of the run holds metrics.jsonl, the `from_pretrained` folders last/ and best/, and
state/, from which `--resume` continues to the bit. Several processes compute what one would, only faster.
"""

import copy
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.data.episodes import EpisodeData, load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.files import duration_text
from lewm_hf.measures.collapse import collapse_warning
from lewm_hf.progress import progress_bar
from lewm_hf.randomness import preserved_randomness
from lewm_hf.sigreg import sigreg_bounds
from lewm_hf.training.arguments import TrainingRecipe, parse_recipe, recipe_values
from lewm_hf.training.batch_norm import recalibrate_batch_norm
from lewm_hf.training.batches import WindowBatches, check_workers, loading
from lewm_hf.training.checkpoints import RunDirectory
from lewm_hf.training.command import run_command
from lewm_hf.training.facts import content_fingerprint, training_facts
from lewm_hf.training.interruption import StopRequest
from lewm_hf.training.launch import Launch, launched
from lewm_hf.training.monitors import embedding_monitors, heldout_metrics
from lewm_hf.training.planning_success import PlanningSuccess
from lewm_hf.training.precision import encoder_in_bf16
from lewm_hf.training.schedule import RunLength, learning_rate
from lewm_hf.training.trackers import start_tracker

logger = logging.getLogger("lewm.train")


def train(
    recipe: TrainingRecipe, config: LeWMConfig, evaluate: Callable[[LeWMModel, int], dict[str, float]] | None = None
) -> dict:
    """Runs a recipe to its end and returns steps, the last and the best evaluation, and the seconds spent training.

    Args:
        recipe, config: see `parse_recipe`; the config's action statistics are measured on the data set.
        evaluate: judges a model in evaluation mode at a step, on the main process; its key "success" decides what
            becomes best/, without it the held-out prediction loss does. Default: planning on `recipe.eval_pairs`
            problems.

    Raises:
        ValueError, FileNotFoundError, OSError: one line; before any file is touched where the input is at fault.
        SystemExit: after SIGINT or SIGTERM, once the state is saved.
    """
    check_workers(recipe.num_workers, recipe.frame_cache)
    with launched(
        output_dir=recipe.output_dir, precision=recipe.precision, tracker=recipe.tracker, compile=recipe.compile,
        accumulation=recipe.gradient_accumulation_steps,
    ) as launch, RunDirectory(recipe.output_dir, launch.accelerator.is_main_process) as run:  # fmt: skip
        return _train(recipe, config, evaluate, launch, run)


def _train(recipe: TrainingRecipe, config: LeWMConfig, evaluate, launch: Launch, run: RunDirectory) -> dict:
    accelerator, precision = launch.accelerator, launch.precision
    device, main, rank, ranks = (
        accelerator.device, accelerator.is_main_process, accelerator.process_index, accelerator.num_processes,
    )  # fmt: skip

    # What is wrong is refused here, before any file is touched.
    if not recipe.resume:
        run.check_new()
    episodes = {split: load_episodes(recipe.dataset, split, recipe.dataset_revision) for split in ("train", "test")}
    config = with_action_statistics(config, episodes["train"])
    goal_blocks = config.actor_max_blocks if config.actor_weight else None
    windows, heldout = (
        WindowDataset(part, config, goal_blocks=goal_blocks, cache=recipe.frame_cache) for part in episodes.values()
    )
    favored = windows.moving(recipe.moving_columns, recipe.moving_threshold) if recipe.moving_share else None
    accumulation = recipe.gradient_accumulation_steps
    per_epoch = WindowBatches(len(windows), recipe.batch_size, recipe.seed, 0, 0, rank, ranks).per_epoch / accumulation
    length = RunLength.of(per_epoch, recipe.max_steps, recipe.schedule_epochs, recipe.stop_epoch)
    if evaluate is None and recipe.eval_pairs and episodes["train"].env_id is None:
        logger.warning("%s names no environment to plan in: models are judged by prediction loss", recipe.dataset)
    elif evaluate is None and recipe.eval_pairs and main:
        evaluate = PlanningSuccess(recipe, config, episodes)
    values, facts = recipe_values(recipe, config), {
        "env_id": episodes["train"].env_id, "env_kwargs": episodes["train"].env_kwargs,
        "train_fingerprint": content_fingerprint(episodes["train"]), "train_windows": len(windows),
        **launch.facts,
    }  # fmt: skip
    if recipe.resume:
        with accelerator.main_process_first():
            run.check_resumable(values, facts)
    accelerator.wait_for_everyone()
    if accumulation > 1:
        logger.warning(
            "gradient_accumulation_steps=%d: SIGReg compares each batch of %d windows with a Gaussian by itself, so "
            "this is not the same as batch_size=%d", accumulation, recipe.batch_size, accumulation * recipe.batch_size,
        )  # fmt: skip

    # Model, optimizer, and where the run stands.
    set_seed(recipe.seed)
    model = LeWMModel(config)
    image_processor = LeWMImageProcessor(image_size=config.image_size, fit=episodes["train"].fit)
    num_parameters, sigreg = model.num_parameters(), model.sigreg
    if not recipe.resume:
        run.start(values, weight_bytes=4 * num_parameters)
    if not recipe.resume:
        initialize_from_data(model, windows, image_processor)
    judge = copy.deepcopy(model).to(device)  # is evaluated and saved; training never sees what happens to it
    if recipe.precision == "bf16_encoder":
        encoder_in_bf16(model, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=recipe.weight_decay, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    if launch.compile_options is not None:
        accelerator.unwrap_model(model).compile(**launch.compile_options)
    set_seed(recipe.seed, device_specific=True)  # dropout differs between ranks
    progress = run.progress() if recipe.resume else None
    if progress:
        accelerator.load_state(str(run.state))
        progress = facts | progress
    else:
        progress = {"step": 0, "evaluated": 0, "best": None, "last": None, "seconds": 0.0} | facts
    run.truncate_metrics(progress["step"], progress["evaluated"])
    start_tracker(accelerator, recipe.tracker, "lewm", values)

    def batches(dataset, order):
        return loading(dataset, order, recipe.num_workers, device)

    def prepared(loader):
        for batch in loader:
            batch = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
            for name in ("pixel_values", "goal_pixel_values"):
                if name in batch:  # moved as uint8: a quarter of the traffic
                    batch[name] = image_processor.normalize(batch[name])
            yield batch

    def log(record: dict):
        run.log(record)
        accelerator.log({key: value for key, value in record.items() if key != "step"}, step=record["step"])

    def evaluate_and_save():
        """Gives a copy fresh BatchNorm statistics, judges it, and keeps it as last/ and perhaps as best/."""
        judge.load_state_dict(accelerator.unwrap_model(model).state_dict())
        count = min(len(heldout), recipe.eval_batches * recipe.batch_size)
        rows = np.linspace(0, len(heldout) - 1, count).astype(int)
        chunks = [chunk.tolist() for chunk in np.array_split(rows, math.ceil(count / recipe.batch_size))]
        order = WindowBatches(
            len(windows), recipe.batch_size, recipe.seed + 1, 0, recipe.recalibration_batches, rank, ranks,
            favored, recipe.moving_share,
        )  # fmt: skip
        with preserved_randomness(device):
            with batches(windows, order) as loader:
                recalibrate_batch_norm(judge, ((batch,) for batch in prepared(loader)), all_losses)
            judge.eval()
            if main:
                with batches(heldout, chunks) as loader:
                    metrics = heldout_metrics(judge, prepared(loader))
                metrics |= evaluate(judge, progress["step"]) if evaluate else {}
                record = {"step": progress["step"]} | {f"eval/{key}": value for key, value in metrics.items()}
                log(record)
                better = progress["best"] is None or goodness(record) > goodness(progress["best"])
                progress.update(last=record, best=record if better else progress["best"])
                about = training_facts(values, progress, per_epoch, num_parameters, device) | {"evaluation": record}
                for name in ("last", "best") if better else ("last",):
                    run.save_model(name, judge, image_processor, about)
                logger.info("step %d: %s", record["step"], "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
                if warning := collapse_warning(record, values):
                    logger.warning("%s", warning)
        progress["evaluated"] = progress["step"]
        run.save_progress(progress)
        accelerator.wait_for_everyone()

    # The loop.
    if main:
        logger.info(
            "%s parameters on %d x %s, %s; %s steps of %d windows, learning rate laid out for %s; SIGReg is %.2f on "
            "Gaussian embeddings, %.1f on collapsed ones", f"{num_parameters:,}", ranks, device.type,
            {"no": "fp32"}.get(precision, precision), f"{length.steps:,}", recipe.batch_size * accumulation,
            f"{length.schedule_steps:,}", *sigreg_bounds(config, recipe.batch_size),
        )  # fmt: skip
    first = progress["step"]
    order = WindowBatches(
        len(windows), recipe.batch_size, recipe.seed, first * accumulation, length.steps * accumulation, rank, ranks,
        favored, recipe.moving_share,
    )  # fmt: skip
    bar = progress_bar(total=length.steps, initial=first, desc="training", unit="step", show=main)
    model.train()
    with StopRequest() as stop, bar, batches(windows, order) as loader:
        upcoming = prepared(loader)
        if progress["evaluated"] < first and is_due(first, recipe.eval_every, length.steps):
            evaluate_and_save()  # the run had saved its state and died before it was judged
        began = clock = time.perf_counter()
        waited, clocked = 0.0, 0
        for number in range(order.start, order.stop):
            asked = time.perf_counter()
            batch = next(upcoming)
            waited += time.perf_counter() - asked
            with accelerator.accumulate(model):
                # Drawn from (seed, number) on the CPU: the same on every rank and after a resume.
                directions = sigreg.directions(recipe.seed, number).to(device, non_blocking=True)
                output = model(**batch, sigreg_directions=directions)
                accelerator.backward(output.loss)
                if accelerator.sync_gradients:
                    gradient_norm = accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
                    rate = learning_rate(
                        progress["step"], length.schedule_steps, recipe.warmup_fraction, recipe.learning_rate
                    )
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad()
            if not accelerator.sync_gradients:
                continue
            progress["step"] += 1
            step, clocked = progress["step"], clocked + 1
            bar.update()

            evaluating, saving = is_due(step, recipe.eval_every, length.steps), step % recipe.save_every == 0
            if step == 1 or step % recipe.log_every == 0 or evaluating or saving:
                names = [name for name in output if name == "loss" or name.endswith("_loss")]
                losses = torch.stack([output[name] for name in names]).detach()
                losses = dict(zip(names, accelerator.reduce(losses, "mean").tolist(), strict=True))
                loss, prediction_loss, sigreg_loss = (losses[n] for n in ("loss", "prediction_loss", "sigreg_loss"))
                embeddings = accelerator.gather(output.embeddings.detach())
                if not math.isfinite(loss):
                    raise ValueError(
                        f"the loss is {loss} at step {step}: lower learning_rate={recipe.learning_rate:g}; "
                        f"{run.path} keeps what was saved before"
                    )
                elapsed = time.perf_counter() - clock
                log({
                    "step": step, "epoch": step / per_epoch, **losses,
                    **embedding_monitors(embeddings, prediction_loss),
                    "gradient_norm": float(gradient_norm), "learning_rate": rate,
                    "windows_per_second": clocked * accumulation * recipe.batch_size / elapsed,
                    "waiting_for_data": waited / elapsed,
                })  # fmt: skip
                bar.set_postfix(prediction=f"{prediction_loss:.4f}", sigreg=f"{sigreg_loss:.2f}", refresh=False)
                progress["seconds"] += elapsed
                clock, waited, clocked = time.perf_counter(), 0.0, 0
            if main and step - first == 50:
                left = (time.perf_counter() - began) / 50 * (length.steps - step)
                logger.info("50 steps done, about %s left, evaluations apart", duration_text(left))

            stopping = agreed(stop, accelerator, step % recipe.log_every == 0)
            paused = time.perf_counter()
            if saving or evaluating or stopping:
                run.save_state(accelerator, progress)  # first: nothing is lost should the evaluation fail
            if evaluating and not stopping:
                evaluate_and_save()
            paused = time.perf_counter() - paused
            clock, began = clock + paused, began + paused
            if stopping:
                raise_stopped(run, progress, stop)
    refuse_unfinished(progress["step"], length.steps, run)
    return {key: progress[key] for key in ("step", "last", "best", "seconds")}


def with_action_statistics(config: LeWMConfig, episodes: EpisodeData) -> LeWMConfig:
    """The config with the data set's action statistics in it, and its action bounds where it states them.

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
    measured = {"action_mean": mean, "action_std": std, "action_statistics_source": name}
    if episodes.action_bounds is not None and all(np.isfinite(bound).all() for bound in episodes.action_bounds):
        low, high = episodes.action_bounds
        measured |= {"action_low": low.tolist(), "action_high": high.tolist()}
    return LeWMConfig(**(config.to_dict() | measured))


def initialize_from_data(model: LeWMModel, windows: WindowDataset, image_processor: LeWMImageProcessor):
    """Lets an encoder that wants to see frames before it starts see some, the same ones on every rank."""
    if hasattr(model.encoder, "initialize_from_data"):
        rows = np.linspace(0, windows.episodes.num_rows - 1, 128).astype(int)
        frames = torch.from_numpy(windows.episodes.frames(rows))
        model.encoder.initialize_from_data(image_processor.normalize(frames))


def all_losses(model: LeWMModel, batch: dict):
    """Runs every part that training runs, BatchNorms of optional heads included."""
    model.losses(batch, model.step_inputs(0, 0))


def is_due(step: int, every: int | None, steps: int) -> bool:
    return step == steps or (every is not None and step % every == 0)


def goodness(record: dict) -> tuple[float, float]:
    """Planning success first: prediction loss says little about it (VIScore, arXiv 2608.11174)."""
    return record.get("eval/success", 0.0), -record["eval/prediction_loss"]


def agreed(stop: StopRequest, accelerator: Accelerator, now: bool) -> bool:
    """Whether some rank was asked to stop; several ranks ask each other only `now`, since it synchronizes them."""
    stopping = stop.signum is not None
    if accelerator.num_processes == 1:
        return stopping
    return now and bool(accelerator.reduce(torch.tensor(float(stopping), device=accelerator.device)) > 0)


def refuse_unfinished(step: int, steps: int, run: RunDirectory):
    """Raises:
    RuntimeError: where the loop ended before its last step without having been stopped.
    """
    if step != steps:
        raise RuntimeError(f"training ended after {step} of {steps} steps: {run.path} keeps what was saved before")


def raise_stopped(run: RunDirectory, progress: dict, stop: StopRequest):
    logger.warning("stopped at step %d, its state is in %s: continue with --resume", progress["step"], run.state)
    raise SystemExit(128 + (stop.signum or 15))


def main(argv: list[str] | None = None) -> int:
    return run_command(lambda: train(*parse_recipe(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())
