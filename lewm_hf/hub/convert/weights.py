"""Reading a state dict from a file that nobody vouches for: numbers come in, code does not."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
# What training scripts wrap a state dict in, and put before its keys.
_WRAPPERS = ("state_dict", "model")
_PREFIX = "model."


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name.

    Args:
        path: safetensors, or a pickle of tensors alone: a bare state dict, or one under `state_dict` or `model`. A
            prefix `model.` that all keys have is cut off.

    Raises:
        ValueError: one line where the file is damaged, holds code or something else than tensors.
    """
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or cut short ({_first_line(error)}): fetch it again") from error
    else:
        content = _unpickle(path)
    while isinstance(content, Mapping) and any(isinstance(content.get(name), Mapping) for name in _WRAPPERS):
        content = next(content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping))
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds a {type(content).__name__} and no state dict: give a file of named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds a {type(value).__name__} under {name!r}: expected a state dict, or one under "
                f"{' or '.join(map(repr, _WRAPPERS))}"
            )
    prefix = _PREFIX if all(name.startswith(_PREFIX) for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(2)
    if head == b"PK" and not zipfile.is_zipfile(path):  # the table of contents stands at the end
        raise ValueError(f"{path} is cut short: fetch it again")
    if head not in (b"PK", b"\x80\x02"):
        raise ValueError(f"{path} is not a PyTorch file: give a state dict saved by torch.save, or a safetensors file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"(?:GLOBAL|function) ([\w.]+)", str(error))
        raise ValueError(
            f"{path} holds more than tensors ({wanted[1] if wanted else _first_line(error)}) and was not opened: a "
            "pickle can run any code, ask its author for a state dict or a safetensors file"
        ) from error
    # What torch's restricted unpickler stumbles over in damaged files is not limited to its own errors.
    except (
        RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
        MemoryError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is damaged ({_first_line(error)}): fetch it again") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".: ")
