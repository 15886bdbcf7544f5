"""What `fit` trains: a job gives data, model, losses, judge and facts; the loop gives steps, saving and resuming."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from ..image_processing_lewm import LeWMImageProcessor
from .batches import WindowBatches
from .schedule import RunLength


class Job(ABC):
    """`fit` calls `open`, `build`, `decode` and `begin` in this order, and then the others as often as it needs.

    Attributes, each set once the method named before it has returned:
        name, unit: of the job, and what a batch consists of, in the singular.
        open: `values` every key of the recipe and the model, for recipe.yaml, and `defaults`, what keys stand for that
            an older version did not know; `facts` what else must be the same when a run is resumed, and `origin` what
            a card wants to know beside; `length`; `steps_per_epoch`; `remark`, the end of the line that says what
            begins.
        build: `model` what is trained; `num_parameters`; `image_processor`, saved beside the model.
        decode: `windows`, the training data.
        judge: `judged`, the model that is saved.
    """

    name: str
    unit: str
    values: dict[str, Any]
    defaults: dict[str, Any]
    facts: dict[str, Any]
    origin: dict[str, Any]
    length: RunLength
    steps_per_epoch: float
    remark: str = ""
    model: PreTrainedModel
    judged: PreTrainedModel
    image_processor: LeWMImageProcessor
    num_parameters: int
    windows: Dataset

    @abstractmethod
    def open(self, accelerator: Accelerator) -> None:
        """Opens data and whatever else is read, and refuses what does not fit, at little cost.

        Raises:
            ValueError, FileNotFoundError: one line.
        """

    @abstractmethod
    def build(self) -> nn.Module:
        """What the optimizer is given: a module whose `forward(batch, step_inputs)` returns `loss`, a scalar, and more
        by name: scalars that end in `_loss` are logged. The global generators are seeded."""

    def parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """What the optimizer takes of `build`'s module; the learning rate of a group is multiplied by its
        `lr_factor`, where it has one."""
        return [{"params": list(module.parameters())}]

    @abstractmethod
    def decode(self) -> None:
        """Whatever takes long: `frame_cache`."""

    @abstractmethod
    def begin(self, fresh: bool) -> None:
        """Called once the folder of the run exists; `fresh`: no saved state will follow, so that weights are still to
        be given, from data or a checkpoint."""

    @abstractmethod
    def order(self, start: int, stop: int) -> WindowBatches:
        """The training batches of this rank from number `start` to `stop - 1`."""

    @abstractmethod
    def prepared(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Loaded batches as the module wants them, on the device."""

    def step_inputs(self, number: int) -> dict[str, Tensor]:
        """What the module needs beside batch `number`: the same on every rank, a pure function of it."""
        return {}

    def watch(self, losses: dict[str, Tensor], scalars: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
        """More numbers for a logged step; every rank takes part.

        Args:
            losses: what the module returned.
            scalars: its logged ones, means over ranks.
        """
        return {}

    @abstractmethod
    def judge(self, step: int) -> dict[str, float]:
        """Judges what was trained so far on held-out data. Every rank takes part, the main one's answer counts."""

    @abstractmethod
    def goodness(self, record: dict[str, Any]) -> tuple[float, ...]:
        """What `best/` has most of; `record` holds what `judge` said, under `eval/...`."""
