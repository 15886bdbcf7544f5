"""A checkpoint as graphs that run without this package: the encoder and the one-step predictor."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...evaluation.common.agent import Agent, load_agent
from ...extras import requires_extra
from ...folders import check_new_folder, new_folder
from ...proprioception_lewm import check_pictures_alone
from ...world_models.base import latent_shape

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt"}
# Largest difference to PyTorch, on embeddings whose entries are of order one.
TOLERANCE = 1e-4
# A graph is traced with a batch of two, and has to be right on others.
TRACED_BATCH, CHECKED_BATCHES = 2, (1, 3)

Run = Callable[..., np.ndarray]


class Encoder(nn.Module):
    """`pixel_values (B, T, 3, H, W)` -> `embeddings (B, T, D)`."""

    inputs, output = ("pixel_values",), "embeddings"

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model.encode(pixel_values)


class Predictor(nn.Module):
    """`embeddings (B, T, D)`, `actions (B, T, A)`, T <= history_size -> `predicted_embeddings (B, T, D)`."""

    inputs, output = ("embeddings", "actions"), "predicted_embeddings"

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, embeddings: Tensor, actions: Tensor) -> Tensor:
        return self.model.predict(embeddings, actions)


def export(
    model: str | Path,
    out: str | Path,
    format: Literal["onnx", "torchscript"] = "onnx",
    *,
    revision: str | None = None,
    tolerance: float = TOLERANCE,
) -> Path:
    """Writes the graphs `encoder` and `predictor`, dynamic in batch and time, and `export.json`: how to feed them.

    Every graph is run again from its file, by onnxruntime or by TorchScript, on sizes that it was not traced with, and
    compared with PyTorch.

    Args:
        model: folder or Hub id of a checkpoint.
        out: a new folder; it appears whole or not at all.
        format: `"onnx"` (extra `export`) or `"torchscript"`.
        revision: of a Hub checkpoint.
        tolerance: largest absolute difference to PyTorch that is accepted.

    Returns:
        `out`.

    Raises:
        ValueError: for an unknown format, a target that exists, a damaged checkpoint, or a graph that computes
            something else than PyTorch.
        FileNotFoundError: where there is no checkpoint.
        ImportError: where ONNX's libraries are missing, naming the pip extra.
    """
    out = Path(out)
    if format not in SUFFIXES:
        raise ValueError(f"format={format!r} is unknown: use one of {', '.join(SUFFIXES)}")
    check_new_folder(out)
    if format == "onnx":
        with requires_extra("export"):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    agent = load_agent(model, revision=revision, device="cpu")
    if not hasattr(agent.model, "predict"):
        raise ValueError(f"{agent.source} is a {type(agent.model).__name__} without `predict`: give a LeWMModel")
    check_pictures_alone(agent.model, "an exported encoder")
    world_model = agent.model.float().requires_grad_(False)
    write, reopen = (write_onnx, open_onnx) if format == "onnx" else (write_torchscript, open_torchscript)
    generator = torch.Generator().manual_seed(0)
    differences = {}
    with new_folder(out) as folder, torch.no_grad():
        for name, kind in (("encoder", Encoder), ("predictor", Predictor)):
            graph = kind(world_model).eval()
            path = folder / (name + SUFFIXES[format])
            # As long as possible: a predictor traced at one frame has no causal mask, and time would be a constant.
            time = world_model.config.history_size + (kind is Encoder)
            write(graph, _random_inputs(graph, TRACED_BATCH, time, generator), path)
            differences[name] = compare(graph, reopen(path), generator)
            if not differences[name] <= tolerance:
                raise ValueError(
                    f"the exported {name} differs from PyTorch by {differences[name]:.2g}, more than "
                    f"tolerance={tolerance:g}: try the other format, and report the versions of torch and onnxruntime"
                )
        facts = describe(agent, format, differences)
        (folder / "export.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return out


def describe(agent: Agent, format: str, differences: dict[str, float]) -> dict[str, Any]:
    """What a program needs to know to use the graphs: names, shapes, normalization, action statistics."""
    config, processor = agent.model.config, agent.processor
    size, history = config.image_size, config.history_size
    latent, block = ["batch", "time", *latent_shape(agent.model)], ["batch", "time", config.action_block_size]
    return {
        "format": format,
        "source": agent.source,
        "revision": agent.revision,
        "encoder": {
            "file": "encoder" + SUFFIXES[format],
            "inputs": {"pixel_values": ["batch", "time", config.num_channels, size, size]},
            "outputs": {"embeddings": latent},
            "max_difference_to_pytorch": differences["encoder"],
        },
        "predictor": {
            "file": "predictor" + SUFFIXES[format],
            "inputs": {"embeddings": latent, "actions": block},
            "outputs": {"predicted_embeddings": latent},
            "max_time": history,
            "max_difference_to_pytorch": differences["predictor"],
        },
        "dtype": "float32",
        "pixels": {
            "order": "pictures of several cameras side by side, made square as fit says (the middle cut out, black "
            "borders, or stretched by the resizing; null: they are square); RGB / 255, minus mean, over std, then "
            "resized to image_size, bilinear and antialiased",
            "cameras": getattr(processor, "cameras", None),
            "fit": getattr(processor, "fit", None),
            "image_size": size,
            "mean": processor.image_mean,
            "std": processor.image_std,
        },
        "actions": {
            "order": "a block is frameskip actions, first to last, each (action - mean) / std, flattened",
            "frameskip": config.frameskip,
            "action_dim": config.action_dim,
            "mean": config.action_mean,
            "std": config.action_std,
            "source": config.action_statistics_source,
            **{name: getattr(config, f"action_{name}", None) for name in ("low", "high", "choices")},
        },
        "torch": torch.__version__,
    }


def write_onnx(graph: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """One ONNX file, weights included."""
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    if inputs[0].shape[1] == 1:  # a model of history 1: time has no other size
        dynamic = {0: torch.export.Dim.DYNAMIC}
    with _only_errors("torch.onnx"), warnings.catch_warnings():
        # Of what torch itself will rename, copied with every node of the graph.
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            graph, inputs, dynamo=True, external_data=False, verbose=False, input_names=list(graph.inputs),
            output_names=[graph.output], dynamic_shapes=dict.fromkeys(graph.inputs, dynamic),
        )  # fmt: skip
        program.save(path, external_data=False)


@contextmanager
def _only_errors(name: str) -> Iterator[None]:
    """A library's logger warns of what a graph of ours never uses: operators of torchvision, where it is missing."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def write_torchscript(graph: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """One TorchScript file, weights included."""
    with warnings.catch_warnings():
        # Checks of shapes become constants; `compare` shows that nothing else did.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # Tracing looks at every attribute of the model, those that transformers is about to rename included.
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(graph, inputs, check_trace=False).save(path)


def open_onnx(path: Path) -> Run:
    """A function of arrays, computed by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def open_torchscript(path: Path) -> Run:
    """A function of arrays, computed by TorchScript on the CPU."""
    module = torch.jit.load(path, map_location="cpu")
    return lambda *arrays: module(*map(torch.from_numpy, arrays)).numpy()


def compare(graph: Encoder | Predictor, run: Run, generator: torch.Generator) -> float:
    """The largest absolute difference between a graph and what was written of it, over batch and time sizes."""
    history, largest = graph.model.config.history_size, 0.0
    for batch in CHECKED_BATCHES:
        for time in sorted({1, history}):
            inputs = _random_inputs(graph, batch, time, generator)
            difference = np.abs(graph(*inputs).numpy() - run(*(tensor.numpy() for tensor in inputs)))
            largest = max(largest, float(difference.max()))
    return largest


def _random_inputs(graph: Any, batch: int, time: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    config = graph.model.config
    sizes = {
        "pixel_values": (config.num_channels, config.image_size, config.image_size),
        "embeddings": latent_shape(graph.model),
        "actions": (config.action_block_size,),
    }
    return tuple(torch.randn(batch, time, *sizes[name], generator=generator) for name in graph.inputs)
