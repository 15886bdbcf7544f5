"""Arguments that analyses share, written once."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from .agent import Agent
from .analysis import Analysis
from .inputs import Inputs, open_agent, open_inputs
from .ranks import ALONE, Ranks

Asked = TypeVar("Asked", bound=Analysis)


@dataclass(frozen=True)
class AnalysisArguments:
    """Which model an analysis is of, and what becomes of its result.

    Args:
        model: folder, Hub id, or a world model in eval mode (then `processor` is needed).
        out: folder for the result and its pictures. Default: nothing is written.
        overwrite: replace the result of another question that `out` holds.
        processor: of a model in memory, which turns pictures into its inputs.
        revision, episodes_revision: of a Hub checkpoint and data set.
        device: default: the accelerator, else the CPU.
        ranks: processes that divide the work, each of which calls this; all get the result, the main one writes.
    """

    model: Any
    _: KW_ONLY
    out: str | Path | None = None
    overwrite: bool = False
    processor: Any = None
    revision: str | None = None
    episodes_revision: str | None = None
    device: torch.device | str | None = None
    ranks: Ranks = ALONE

    def carry_out(self, analysis: type[Asked]) -> Asked:
        """Carries out an analysis whose constructor takes these arguments, see `Analysis.carry_out`."""
        return analysis.carry_out(self, out=self.out, overwrite=self.overwrite, ranks=self.ranks)

    def open_agent(self) -> Agent:
        """The model, see `open_agent`."""
        return open_agent(self.model, self.processor, self.revision, self.device)


@dataclass(frozen=True)
class RecordedArguments(AnalysisArguments):
    """Arguments of an analysis on recorded episodes.

    Args:
        split: which part of the episodes, where they are given as a folder or Hub id.
    """

    _: KW_ONLY
    split: str = "test"

    def open_inputs(self, episodes: Any) -> Inputs:
        """The model and its episodes, see `open_inputs`."""
        return open_inputs(
            self.model, episodes, split=self.split, processor=self.processor, revision=self.revision,
            episodes_revision=self.episodes_revision, device=self.device,
        )  # fmt: skip
