"""How long a run is, and its learning rate at every step."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RunLength:
    """Steps that are run, and steps that the learning rate is laid out for.

    They differ only where a recipe asks for it: the released weights come from a schedule of 100 epochs that was
    stopped after 10, which keeps the learning rate near its peak (0.98 of it) to the end. A schedule of 10 epochs is
    another recipe.
    """

    steps: int
    schedule_steps: int

    @classmethod
    def of(
        cls,
        steps_per_epoch: float,
        max_steps: int | None = None,
        schedule_epochs: float | None = None,
        stop_epoch: float | None = None,
    ) -> "RunLength":
        """`max_steps` replaces both other options: the schedule then spans exactly the steps that are run.

        Raises:
            ValueError: where nothing gives a length, or the run would outlast its schedule.
        """
        for name, value in (("max_steps", max_steps), ("schedule_epochs", schedule_epochs), ("stop_epoch", stop_epoch)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive")
        if max_steps is not None:
            return cls(max_steps, max_steps)
        if schedule_epochs is None:
            raise ValueError("the recipe gives no length: set max_steps, or schedule_epochs (and stop_epoch)")
        schedule_steps = max(1, round(schedule_epochs * steps_per_epoch))
        if stop_epoch is None:
            return cls(schedule_steps, schedule_steps)
        if stop_epoch > schedule_epochs:
            raise ValueError(
                f"stop_epoch={stop_epoch:g} lies after schedule_epochs={schedule_epochs:g}: raise the latter"
            )
        return cls(max(1, round(stop_epoch * steps_per_epoch)), schedule_steps)


def learning_rate(step: int, schedule_steps: int, warmup_fraction: float, peak: float) -> float:
    """Linear warm-up from 0 over `warmup_fraction` of the schedule, then a half cosine to 0; step 0 is the first one.

    A pure function of the step, so that a resumed run needs no scheduler state. Equal to
    `transformers.get_cosine_schedule_with_warmup`.
    """
    warmup_steps = int(warmup_fraction * schedule_steps)
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, schedule_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
