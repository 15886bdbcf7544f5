"""Trains a decoder that makes the embeddings of a frozen LeWM visible.

    accelerate launch training/train_decoder.py training/recipes/decoder.yaml \
        --model runs/tworoom/best --dataset DIR --output_dir runs/tworoom-decoder

The world model is never changed. Every key of the recipe (`lewm_hf.training.decoder_arguments.DecoderRecipe`) can be
given on the command line. The folder of the run holds metrics.jsonl, the `from_pretrained` folders last/ and best/, and
state/, from which `--resume` continues to the bit.
"""

import dataclasses
import logging
import math
import sys
import time

import numpy as np
import torch
from accelerate.utils import set_seed

from lewm_hf import LeWMImageProcessor
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.inputs import open_inputs
from lewm_hf.evaluation.common.provenance import hardware, library_versions, model_fingerprint
from lewm_hf.modeling_lewm_decoder import LeWMDecoder
from lewm_hf.progress import progress_bar
from lewm_hf.training.batches import WindowBatches, check_workers, loading
from lewm_hf.training.checkpoints import RunDirectory
from lewm_hf.training.command import run_command
from lewm_hf.training.decoder_arguments import DecoderRecipe, parse_decoder_recipe
from lewm_hf.training.facts import content_fingerprint
from lewm_hf.training.interruption import StopRequest
from lewm_hf.training.launch import Launch, launched
from lewm_hf.training.schedule import learning_rate
from lewm_hf.training.trackers import start_tracker

logger = logging.getLogger("lewm.train_decoder")


def train_decoder(recipe: DecoderRecipe) -> dict:
    """Runs a recipe to its end and returns steps, the last and the best evaluation, and the seconds spent training.

    Raises:
        ValueError, FileNotFoundError, OSError: one line; before any file is touched where the input is at fault.
        SystemExit: after SIGINT or SIGTERM, once the state is saved.
    """
    check_workers(recipe.num_workers, recipe.frame_cache)
    with launched(
        output_dir=recipe.output_dir, precision=recipe.precision, tracker=recipe.tracker
    ) as launch, RunDirectory(recipe.output_dir, launch.accelerator.is_main_process) as run:  # fmt: skip
        return _train(recipe, launch, run)


def _train(recipe: DecoderRecipe, launch: Launch, run: RunDirectory) -> dict:
    accelerator, precision = launch.accelerator, launch.precision
    device, main, rank, ranks = (
        accelerator.device, accelerator.is_main_process, accelerator.process_index, accelerator.num_processes,
    )  # fmt: skip

    # What is wrong is refused here, before any file is touched.
    if not recipe.resume:
        run.check_new()
    episodes = {split: load_episodes(recipe.dataset, split, recipe.dataset_revision) for split in ("train", "test")}
    agent = open_inputs(recipe.model, episodes["train"], revision=recipe.model_revision, device=device).agent
    world_model = agent.model.requires_grad_(False)
    fingerprint = model_fingerprint(world_model)
    config = recipe.config(world_model.config, fingerprint)
    # A window of one frame; the few rows behind an episode's last whole action block are left out.
    frames, heldout = (
        WindowDataset(part, world_model.config, num_frames=1, cache=recipe.frame_cache) for part in episodes.values()
    )
    order = WindowBatches(len(frames), recipe.batch_size, recipe.seed, 0, recipe.max_steps, rank, ranks)
    values = dataclasses.asdict(recipe)
    facts = {
        "world_model": fingerprint, "train_fingerprint": content_fingerprint(episodes["train"]),
        "train_frames": len(frames), **launch.facts,
    }  # fmt: skip
    if recipe.resume:
        with accelerator.main_process_first():
            run.check_resumable(values, facts)
    accelerator.wait_for_everyone()

    set_seed(recipe.seed)
    decoder = LeWMDecoder(config)
    size = config.image_size
    as_labels = LeWMImageProcessor(image_size=size, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)).normalize

    def pictures(dataset: WindowDataset, count: int) -> torch.Tensor:
        """`count` frames from all over a data set, uint8 `(n, H, W, 3)`."""
        rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
        return dataset.batch(rows)["pixel_values"][:, 0]

    num_parameters = decoder.num_parameters()
    if not recipe.resume:
        run.start(values, weight_bytes=4 * num_parameters)
    total = sum(as_labels(chunk).sum(0) for chunk in pictures(frames, recipe.background_frames).split(64))
    background = total / min(recipe.background_frames, len(frames))
    decoder.background.pixels.data = background.clone()
    background = background.to(device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=0.0, weight_decay=recipe.weight_decay, fused=True)
    decoder, optimizer = accelerator.prepare(decoder, optimizer)
    if launch.compile_options is not None:
        accelerator.unwrap_model(decoder).compile(**launch.compile_options)
    progress = run.progress() if recipe.resume else None
    if progress:
        accelerator.load_state(str(run.state))
    else:
        progress = {"step": 0, "evaluated": 0, "best": None, "last": None, "seconds": 0.0} | facts
    run.truncate_metrics(progress["step"], progress["evaluated"])
    start_tracker(accelerator, recipe.tracker, "lewm-decoder", values)

    def embed_and_label(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 frames `(n, H, W, 3)` -> frozen embeddings `(n, D)`, pictures `(n, 3, H, W)` in [0, 1]."""
        with torch.no_grad():
            return world_model.encode(agent.processor.normalize(frames)[:, None])[:, 0], as_labels(frames)

    def log(record: dict):
        run.log(record)
        accelerator.log({key: value for key, value in record.items() if key != "step"}, step=record["step"])

    def evaluate_and_save():
        """Judges the decoder on held-out frames beside the mean picture, and keeps it as last/ and perhaps as best/."""
        if main:
            plain, errors, blank = accelerator.unwrap_model(decoder).eval(), [], []
            for chunk in pictures(heldout, recipe.eval_frames).split(64):
                embeddings, labels = embed_and_label(chunk.to(device))
                with torch.no_grad():
                    errors.append((plain(embeddings).pixels.float() - labels).square().mean((1, 2, 3)))
                blank.append((background - labels).square().mean((1, 2, 3)))
            plain.train()
            mse, mean_picture = float(torch.cat(errors).mean()), float(torch.cat(blank).mean())
            metrics = {"mse": mse, "psnr": -10 * math.log10(max(mse, 1e-10)), "over_mean_picture": mse / mean_picture}
            record = {"step": progress["step"]} | {f"eval/{key}": value for key, value in metrics.items()}
            log(record)
            better = progress["best"] is None or mse < progress["best"]["eval/mse"]
            progress.update(last=record, best=record if better else progress["best"])
            about = {
                "steps": progress["step"], "seconds": round(progress["seconds"], 1), "parameters": num_parameters,
                "env_id": episodes["train"].env_id, **facts, "world_model_source": agent.source,
                "recipe": {key: value for key, value in values.items() if key not in ("output_dir", "resume")},
                "evaluation": record, "hardware": hardware(device), "versions": library_versions(),
            }  # fmt: skip
            for name in ("last", "best") if better else ("last",):
                run.save_model(name, plain, agent.processor, about)
            logger.info("step %d: %s", record["step"], "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
        progress["evaluated"] = progress["step"]
        run.save_progress(progress)
        accelerator.wait_for_everyone()

    # The loop.
    if main:
        logger.info(
            "%s parameters on %d x %s, %s; %s steps of %d frames", f"{num_parameters:,}", ranks, device.type,
            {"no": "fp32"}.get(precision, precision), f"{recipe.max_steps:,}", recipe.batch_size,
        )  # fmt: skip
    first = progress["step"]
    order = WindowBatches(len(frames), recipe.batch_size, recipe.seed, first, recipe.max_steps, rank, ranks)
    bar = progress_bar(total=recipe.max_steps, initial=first, desc="decoder", unit="step", show=main)
    decoder.train()
    with StopRequest() as stop, bar, loading(frames, order, recipe.num_workers, device) as loader:
        if progress["evaluated"] < first and is_due(first, recipe.eval_every, recipe.max_steps):
            evaluate_and_save()  # the run had saved its state and died before it was judged
        clock, clocked = time.perf_counter(), 0
        for batch in loader:
            embeddings, labels = embed_and_label(batch["pixel_values"][:, 0].to(device, non_blocking=True))
            output = decoder(embeddings=embeddings, labels=labels)
            accelerator.backward(output.loss)
            gradient_norm = accelerator.clip_grad_norm_(decoder.parameters(), recipe.max_grad_norm)
            rate = learning_rate(progress["step"], recipe.max_steps, recipe.warmup_fraction, recipe.learning_rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
            progress["step"] += 1
            step, clocked = progress["step"], clocked + 1
            bar.update()

            evaluating, saving = is_due(step, recipe.eval_every, recipe.max_steps), step % recipe.save_every == 0
            if step == 1 or step % recipe.log_every == 0 or evaluating or saving:
                loss = float(accelerator.reduce(output.loss.detach(), "mean"))
                if not math.isfinite(loss):
                    raise ValueError(
                        f"the loss is {loss} at step {step}: lower learning_rate={recipe.learning_rate:g}; {run.path} "
                        "keeps what was saved before"
                    )
                elapsed = time.perf_counter() - clock
                log({
                    "step": step, "loss": loss, "gradient_norm": float(gradient_norm), "learning_rate": rate,
                    "frames_per_second": clocked * recipe.batch_size / elapsed,
                })  # fmt: skip
                bar.set_postfix(mse=f"{loss:.5f}", refresh=False)
                progress["seconds"] += elapsed
                clock, clocked = time.perf_counter(), 0

            # Several ranks ask each other only where they wait for each other anyway.
            stopping = stop.signum is not None
            if ranks > 1:
                asked = torch.tensor(float(stopping), device=device)
                stopping = step % recipe.log_every == 0 and bool(accelerator.reduce(asked) > 0)
            paused = time.perf_counter()
            if saving or evaluating or stopping:
                run.save_state(accelerator, progress)  # first: nothing is lost should the evaluation fail
            if evaluating and not stopping:
                evaluate_and_save()
            clock += time.perf_counter() - paused
            if stopping:
                logger.warning("stopped at step %d, its state is in %s: continue with --resume", step, run.state)
                raise SystemExit(128 + (stop.signum or 15))
    refuse_unfinished(progress["step"], recipe.max_steps, run)
    return {key: progress[key] for key in ("step", "last", "best", "seconds")}


def refuse_unfinished(step: int, steps: int, run: RunDirectory):
    """Raises:
    RuntimeError: where the loop ended before its last step without having been stopped.
    """
    if step != steps:
        raise RuntimeError(f"training ended after {step} of {steps} steps: {run.path} keeps what was saved before")


def is_due(step: int, every: int | None, steps: int) -> bool:
    return step == steps or (every is not None and step % every == 0)


def main(argv: list[str] | None = None) -> int:
    return run_command(lambda: train_decoder(parse_decoder_recipe(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())
