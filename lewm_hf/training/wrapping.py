"""Modules whose forward is a loss, saved under the names of the model that they wrap."""

from torch import Tensor, nn


class LossModule(nn.Module):
    """Wraps `model`; a subclass gives `forward(batch, step_inputs) -> {"loss": ...}`.

    DistributedDataParallel synchronizes what a forward computes, and nothing else. Saved weights have the model's own
    names, so that a state can be read without knowing this class.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)


def _without_prefix(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict) -> None:
    inner = f"{prefix}model."
    for name in [name for name in state_dict if name.startswith(inner)]:
        state_dict[prefix + name.removeprefix(inner)] = state_dict.pop(name)


def _with_prefix(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[f"{prefix}model.{name.removeprefix(prefix)}"] = state_dict.pop(name)
