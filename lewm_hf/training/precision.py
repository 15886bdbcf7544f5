"""Which device a run will use, and which arithmetic that is made for."""

import os

import torch
from accelerate.utils import is_bf16_available, parse_flag_from_env


def training_device() -> torch.device:
    """The device that an `Accelerator` made now would choose, without making its state."""
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return torch.device("cpu")
    if "ACCELERATE_TORCH_DEVICE" in os.environ:
        return torch.device(os.environ["ACCELERATE_TORCH_DEVICE"])
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def mixed_precision(precision: str, device: torch.device) -> str:
    """Accelerate's name for `precision` ("auto", "fp32", "bf16", "bf16_encoder") on `device`.

    "bf16_encoder" is "no" to Accelerate: see `encoder_in_bf16`. "auto" takes bf16 where it is faster: accelerators with
    it, and CPUs with bf16 instructions (AVX512-BF16, AMX).

    Raises:
        ValueError: where bf16 is asked of an accelerator without it.
    """
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        supported = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    else:
        supported = is_bf16_available()
        if precision == "bf16" and not supported:
            raise ValueError(f"precision=bf16 is not supported by this {device.type} device: use auto or fp32")
    return "bf16" if precision == "bf16" or (precision == "auto" and supported) else "no"


def encoder_in_bf16(model: torch.nn.Module, device: torch.device) -> None:
    """Lets the encoder alone compute in bfloat16: most of a step's time, and none of the small differences between
    embeddings that prediction, inverse dynamics and SIGReg live on.
    """
    model.encoder.forward = torch.autocast(device.type, torch.bfloat16)(model.encoder.forward)
