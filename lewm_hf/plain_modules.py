"""Whether something stands between a module's weights and what calling it computes."""

import torch.nn as nn
from torch import Tensor


def is_plain(module: nn.Module, types: tuple[type, ...]) -> bool:
    """Whether calling `module` does nothing but what its class says: no adapter, quantizer, offloading or hook."""
    if type(module) not in types or "forward" in vars(module):
        return False
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return False
    for tensors in (module._parameters, module._buffers):
        for tensor in tensors.values():
            if tensor is not None and (type(tensor) not in (nn.Parameter, Tensor) or tensor.is_meta):
                return False
    return True


def modules_of(*parts: nn.Module) -> list[nn.Module]:
    """All modules of these. `nn.Module.modules` also makes their names, and takes as long as a small window."""
    found = list(parts)
    for module in found:  # grows on the way
        found += [child for child in module._modules.values() if child is not None]
    return found
