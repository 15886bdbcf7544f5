"""Commands, in this process."""

import torch
from accelerate.state import AcceleratorState, GradientState

from lewm_hf.cli import main


def command(*words: object) -> None:
    threads = torch.get_num_threads()
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    assert main([str(word) for word in words]) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    torch.set_num_threads(threads)
