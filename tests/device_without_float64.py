"""A device that has no float64, as Apple's GPUs have none: computed by the CPU, on any machine.

Tensors on it wrap tensors of the CPU, every operation on them is computed there, and what would be float64 is refused,
as are operations between this device and the CPU. It is registered for the whole process, so this is a program of its
own: it does on the device what people do there, and prints as JSON how far each result is from the CPU's, or how it
failed.
"""

import copy
import json
from collections.abc import Callable

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.evaluation.probe.regression import fit_mlp
from lewm_hf.measures import spectrum
from lewm_hf.planning import CEM, PlanSettings, plan
from lewm_hf.training.batch_norm import recalibrate_batch_norm
from lewm_hf.training.monitors import heldout_metrics

NAME = "single"


class Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
DEVICE = torch.device(f"{NAME}:0")


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; `value` is where it is."""

    @staticmethod
    def __new__(cls, value: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype,
            device=DEVICE,
        )  # fmt: skip

    def __init__(self, value: torch.Tensor):
        self.value = value

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    """One operation, on the device if an argument is there or if it is asked for."""
    target = kwargs.get("device")
    there = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, OnDevice)]
    if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
        on = isinstance(args[0], OnDevice) if target is None else target.type == NAME
    else:
        on = bool(there) if target is None else target.type == NAME
        elsewhere = [leaf for leaf in tree_leaves((args, kwargs)) if type(leaf) is torch.Tensor and leaf.dim()]
        if there and elsewhere and "index" not in str(func):  # an index may be the CPU's
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {NAME} and cpu")
    values, options = tree_map(lambda leaf: leaf.value if isinstance(leaf, OnDevice) else leaf, (args, kwargs))
    if target is not None:
        options["device"] = torch.device("cpu")
    in_place = {id(leaf.value): leaf for leaf in there}

    def put(value):
        if not on or not isinstance(value, torch.Tensor):
            return value
        if value.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{func}: cannot convert a tensor to float64, which the device does not support")
        return in_place.get(id(value)) if id(value) in in_place else OnDevice(value)

    return tree_map(put, func(*values, **options))


class Factories(TorchDispatchMode):
    """What makes tensors on the device, or moves them there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Numbers of Python become tensors before any operation is seen."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            target = kwargs.pop("device")
            return func(*args, **kwargs).to(target)
        if func is torch.Tensor.__getitem__ and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]))
        return func(*args, **kwargs)


def main():
    torch.manual_seed(0)
    config = LeWMConfig(
        image_size=28, encoder_hidden_size=24, encoder_layers=1, encoder_mlp_size=48, embed_dim=16,
        projector_hidden_size=32, predictor_hidden_size=24, predictor_layers=1, predictor_heads=2,
        predictor_head_dim=8, predictor_mlp_size=32, predictor_dropout=0.0, action_mlp_size=48, sigreg_projections=64,
        action_mean=[0.1, -0.2], action_std=[0.5, 0.6],
    )  # fmt: skip
    here = LeWMModel(config).eval()
    pixels, actions = torch.randn(8, 4, 3, 28, 28), torch.randn(8, 4, 10)
    context, goal = torch.randn(2, 1, 16), torch.randn(2, 1, 16)
    inputs = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
    frames = [np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8) for seed in (0, 1)]
    search = {"samples": 16, "iterations": 2, "elites": 4}

    def trained(model, device):
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(2):
            loss = model(pixels.to(device), actions.to(device)).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return loss.detach()

    def recalibrated(model, device):
        recalibrate_batch_norm(model, [(scale * pixels.to(device), actions.to(device)) for scale in (1, 2)])
        return model.pred_proj.batch_norm.running_var

    def evaluated(model, device):
        batch = {"pixel_values": pixels.to(device), "actions": actions.to(device)}
        return torch.tensor(list(heldout_metrics(model, [batch]).values()))

    def of_many(model, device):
        direct, spectrum.DIRECT = spectrum.DIRECT, 0  # as if there were millions
        try:
            return torch.tensor(spectrum.effective_rank(pixels[:, 0].flatten(1).to(device)))
        finally:
            spectrum.DIRECT = direct

    def pipeline(model, device):
        planner = LeWMPlanner(model, LeWMImageProcessor(image_size=28), device=device, **search)
        return torch.as_tensor(planner({"observation": frames[0], "goal": frames[1]})["actions"])

    work: dict[str, Callable] = {
        "float64": lambda model, device: pixels.to(device).double(),
        "evaluation": evaluated,
        "training": trained,
        "recalibration": recalibrated,
        "plan": lambda model, device: plan(
            model, context.to(device), goal.to(device), PlanSettings(solver=CEM(**search), horizon=5)
        )["costs"],
        "pipeline": pipeline,
        "probe": lambda model, device: torch.from_numpy(
            fit_mlp(inputs, inputs[:, :2], seed=0, steps=3, device=device)(inputs)
        ),
        "effective rank": lambda model, device: torch.tensor(
            spectrum.effective_rank(pixels[:, 0].flatten(1).to(device))
        ),
        "effective rank of many": of_many,
        "distances": lambda model, device: torch.pdist(spectrum.isometric(pixels.flatten(1).to(device))),
    }
    found = {}
    for name, compute in work.items():
        expected = compute(copy.deepcopy(here), torch.device("cpu"))
        try:
            with Literals(), Factories():
                result = compute(copy.deepcopy(here).to(DEVICE), DEVICE).cpu()
            found[name] = float((result - expected).abs().max())
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            found[name] = str(error)[:300]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
