"""The training loop: `fit(recipe, job)`.

Read `_Fit.__init__` for what a run is made of, `_Fit.run` for the loop, `_Fit.update` for one optimizer step. What is
trained is the job's business, see `job.py`; how long and how fast is the recipe's.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor

from ..compiler_cache import naming_the_compilers_cache
from ..files import duration_text
from ..measures.collapse import collapse_warning
from ..progress import progress_bar
from ..randomness import preserved_randomness
from .arguments import RunRecipe
from .batches import check_workers, loading
from .checkpoints import RunDirectory
from .facts import training_facts
from .interruption import StopRequest
from .job import Job
from .launch import Launch, launched
from .schedule import learning_rate
from .trackers import start_tracker

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a run stands; `state/progress.json` holds it beside the facts of the job.

    Args:
        step: optimizer steps that were done.
        evaluated: step of the last evaluation.
        seconds: spent training, evaluations and saving apart.
        best, last: records of the best and the last evaluation.
    """

    step: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None

    @classmethod
    def read(cls, saved: dict[str, Any]) -> "Progress":
        return cls(**{name: saved[name] for name in cls.__dataclass_fields__})


class Pace:
    """The clock of a run, which stands still while something else than training happens."""

    def __init__(self) -> None:
        self.began = self.since = time.perf_counter()
        self.steps, self.waited = 0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Waiting for data is training time, and is told apart."""
        asked = time.perf_counter()
        yield
        self.waited += time.perf_counter() - asked

    @contextmanager
    def paused(self) -> Iterator[None]:
        stopped = time.perf_counter()
        yield
        stood = time.perf_counter() - stopped
        self.began, self.since = self.began + stood, self.since + stood

    def lap(self) -> tuple[float, int, float]:
        """Seconds, steps and seconds of waiting since the last lap."""
        now = time.perf_counter()
        lap = now - self.since, self.steps, self.waited
        self.since, self.steps, self.waited = now, 0, 0.0
        return lap


@naming_the_compilers_cache()
def fit(recipe: RunRecipe, job: Job) -> dict[str, Any]:
    """Runs a recipe to its end and returns steps, the last and the best evaluation, and the seconds spent training.

    Args:
        recipe: how long, how fast, how often and where.
        job: what is trained, on what, and how it is judged.

    Raises:
        ValueError, FileNotFoundError, ImportError, OSError: one line; before any file is touched and any frame decoded
            where the input is at fault.
        RuntimeError: where the run ended early without having been stopped.
        SystemExit: after SIGINT or SIGTERM, once the state is saved.
    """
    check_workers(recipe.num_workers, recipe.frame_cache)
    with (
        launched(
            output_dir=recipe.output_dir,
            precision=recipe.precision,
            tracker=recipe.tracker,
            compile=recipe.compile,
            accumulation=recipe.gradient_accumulation_steps,
        ) as launch,
        RunDirectory(recipe.output_dir, launch.accelerator.is_main_process) as folder,
    ):
        # All that holds the model is a local of this call: it must be gone before the process group is.
        return _Fit(recipe, job, launch, folder).run()


class _Fit:
    def __init__(self, recipe: RunRecipe, job: Job, launch: Launch, folder: RunDirectory):
        self.recipe, self.job, self.folder, self.accelerator = recipe, job, folder, launch.accelerator
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process

        # What is wrong is refused here, before any file is touched and any frame decoded.
        if not recipe.resume:
            folder.check_new()
        job.open(self.accelerator)
        self.length, self.facts = job.length, job.facts | launch.facts
        if recipe.resume:
            with self.accelerator.main_process_first():
                folder.check_resumable(job.values, self.facts, job.defaults)
        self.accelerator.wait_for_everyone()
        set_seed(recipe.seed)
        module = job.build()
        if not recipe.resume:
            folder.check_room(4 * job.num_parameters)
        job.decode()

        # Where the run stands.
        if not recipe.resume:
            folder.start(job.values)
        saved = folder.progress() if recipe.resume else None
        job.begin(fresh=saved is None)
        groups = job.parameter_groups(module)
        optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=recipe.weight_decay, fused=True)
        self.model, self.optimizer = self.accelerator.prepare(module, optimizer)
        if launch.compile_options is not None:
            job.model.compile(**launch.compile_options)
        set_seed(recipe.seed, device_specific=True)  # dropout differs between ranks
        if saved:
            self.accelerator.load_state(str(folder.state))
        self.progress = Progress.read(saved) if saved else Progress()
        folder.truncate_metrics(self.progress.step, self.progress.evaluated)
        start_tracker(self.accelerator, recipe.tracker, job.name, job.values)
        if self.main:
            precision = {"no": "fp32"}.get(launch.precision, launch.precision)
            logger.info(
                "%s parameters on %d x %s, %s; %s steps of %d %ss%s", f"{job.num_parameters:,}",
                self.accelerator.num_processes, self.device.type, precision, f"{self.length.steps:,}",
                recipe.batch_size * recipe.gradient_accumulation_steps, job.unit, job.remark,
            )  # fmt: skip

    def run(self) -> dict[str, Any]:
        recipe, progress, steps = self.recipe, self.progress, self.length.steps
        first, accumulation = progress.step, recipe.gradient_accumulation_steps
        order = self.job.order(first * accumulation, steps * accumulation)
        bar = progress_bar(total=steps, initial=first, desc=self.job.name, unit="step", show=self.main)
        self.model.train()
        with StopRequest() as stop, bar, loading(self.job.windows, order, recipe.num_workers, self.device) as loader:
            batches = self.job.prepared(loader)
            if progress.evaluated < first and self.is_due(recipe.eval_every):
                self.evaluate()  # the run had saved its state and died before it was judged
            pace = Pace()
            while progress.step < steps:
                losses = self.update(batches, pace)
                bar.update()
                evaluating, saving = self.is_due(recipe.eval_every), progress.step % recipe.save_every == 0
                if progress.step == 1 or progress.step % recipe.log_every == 0 or evaluating or saving:
                    self.log_step(losses, pace, bar)
                if self.main and progress.step - first == 50:
                    left = (time.perf_counter() - pace.began) / 50 * (steps - progress.step)
                    logger.info("50 steps done, about %s left, evaluations apart", duration_text(left))
                stopping = self.agreed(stop)
                with pace.paused():
                    if saving or evaluating or stopping:  # saved first: nothing is lost should the evaluation fail
                        self.folder.save_state(self.accelerator, asdict(progress) | self.facts)
                    if stopping:
                        self.raise_stopped(stop)
                    if evaluating:
                        self.evaluate()
        return {name: getattr(progress, name) for name in ("step", "last", "best", "seconds")}

    def update(self, batches: Iterator[dict[str, Tensor]], pace: Pace) -> dict[str, Tensor]:
        """One optimizer step; returns what the job said about its last batch, and the norm of the gradient.

        Raises:
            RuntimeError: where the data end, or Accelerate takes no step, before the run does.
        """
        accelerator, recipe, progress = self.accelerator, self.recipe, self.progress
        self.rate = learning_rate(
            progress.step, self.length.schedule_steps, recipe.warmup_fraction, recipe.learning_rate
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("lr_factor", 1.0)
        accumulation = recipe.gradient_accumulation_steps
        for number in range(progress.step * accumulation, (progress.step + 1) * accumulation):
            with pace.waiting():
                batch = next(batches, None)
            if batch is None:
                break
            with accelerator.accumulate(self.model):
                # Drawn from (seed, number): the same on every rank and after a resume.
                losses = self.model(batch, self.job.step_inputs(number))
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    losses["gradient_norm"] = accelerator.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if batch is None or not accelerator.sync_gradients:
            raise RuntimeError(
                f"training ended after {progress.step} of {self.length.steps} steps: {self.folder.path} keeps what was "
                "saved before, continue with --resume"
            )
        progress.step, pace.steps = progress.step + 1, pace.steps + 1
        return losses

    def log_step(self, losses: dict[str, Tensor], pace: Pace, bar: Any) -> None:
        """Raises:
        ValueError: where the loss is not a number.
        """
        recipe, progress = self.recipe, self.progress
        names = [name for name in losses if name == "loss" or name.endswith("_loss")]
        means = self.accelerator.reduce(torch.stack([losses[name] for name in names]).detach(), "mean").tolist()
        scalars = dict(zip(names, means, strict=True))
        if not math.isfinite(scalars["loss"]):
            raise ValueError(
                f"the loss is {scalars['loss']} at step {progress.step}: lower learning_rate={recipe.learning_rate:g}; "
                f"{self.folder.path} keeps what was saved before"
            )
        watched = self.job.watch(losses, scalars, self.accelerator)
        seconds, steps, waited = pace.lap()
        progress.seconds += seconds
        windows = steps * recipe.gradient_accumulation_steps * recipe.batch_size
        self.log({
            "step": progress.step, "epoch": progress.step / self.job.steps_per_epoch, **scalars, **watched,
            "gradient_norm": float(losses["gradient_norm"]), "learning_rate": self.rate,
            f"{self.job.unit}s_per_second": windows / seconds, "waiting_for_data": waited / seconds,
        })  # fmt: skip
        shown = {name.removesuffix("_loss"): f"{value:.4g}" for name, value in scalars.items() if name != "loss"}
        bar.set_postfix(shown or {"loss": f"{scalars['loss']:.4g}"}, refresh=False)

    def evaluate(self) -> None:
        """Judges what was trained, and keeps it as last/ and perhaps as best/; every rank takes part."""
        job, progress = self.job, self.progress
        with preserved_randomness(self.device):
            metrics = job.judge(progress.step)
        if self.main:
            record = {"step": progress.step} | {f"eval/{key}": value for key, value in metrics.items()}
            self.log(record)
            better = progress.best is None or job.goodness(record) > job.goodness(progress.best)
            progress.last, progress.best = record, record if better else progress.best
            standing = asdict(progress) | self.facts | job.origin
            about = training_facts(job.values, standing, job.steps_per_epoch, job.num_parameters, self.device)
            about |= {"evaluation": record}
            for name in ("last", "best") if better else ("last",):
                self.folder.save_model(name, job.judged, job.image_processor, about)
            logger.info("step %d: %s", record["step"], "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
            if warning := collapse_warning(record, job.values):
                logger.warning("%s", warning)
        progress.evaluated = progress.step
        self.folder.save_progress(asdict(progress) | self.facts)
        self.accelerator.wait_for_everyone()

    def log(self, record: dict[str, Any]) -> None:
        self.folder.log(record)
        self.accelerator.log({key: value for key, value in record.items() if key != "step"}, step=record["step"])

    def is_due(self, every: int | None) -> bool:
        step = self.progress.step
        return step == self.length.steps or (every is not None and step % every == 0)

    def agreed(self, stop: StopRequest) -> bool:
        """Whether some rank was asked to stop; several ask each other only where they wait for each other anyway."""
        stopping = stop.signum is not None
        if self.accelerator.num_processes == 1:
            return stopping
        if self.progress.step % self.recipe.log_every:
            return False
        return bool(self.accelerator.reduce(torch.tensor(float(stopping), device=self.device)) > 0)

    def raise_stopped(self, stop: StopRequest) -> None:
        logger.warning(
            "stopped at step %d, its state is in %s: continue with --resume", self.progress.step, self.folder.state
        )
        raise SystemExit(128 + (stop.signum or 15))
