"""SIGReg: keeps embeddings Gaussian, exactly, on one or on many ranks (LeWM, arXiv 2603.19312, section 3).

The Epps-Pulley statistic of random one-dimensional projections: the squared distance between the empirical
characteristic function of the batch and that of N(0, 1), integrated over frequencies with a Gaussian window. Two
reference values tell a healthy run from a broken one: about 1.05 on perfect N(0, I) whatever the batch size, and
0.402 times the batch size when all embeddings coincide.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import initialization as init

from .configuration_lewm import LeWMConfig

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@torch.compiler.assume_constant_result  # a compiled graph cannot ask; what judges alone is not compiled
def _is_alone() -> bool:
    return _ALONE.get()


def world_size() -> int:
    """Number of ranks that share one batch."""
    if _is_alone() or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this rank's batch is the whole batch, whatever the other ranks do: for what one rank judges by itself."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


class _AllReduceSum(torch.autograd.Function):
    """Sum over ranks whose backward is a sum over ranks too: every rank's loss depends on every rank's input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


def all_reduce_sum(x: Tensor) -> Tensor:
    """Differentiable sum of `x` over all ranks; `x` itself on one rank."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


def in_float32(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What `nn.Module._apply` is to do with a module that `.half()` and `.to(bfloat16)` must move but not round."""

    def apply(tensor: Tensor) -> Tensor:
        moved = fn(tensor)
        rounded = moved.is_floating_point() and moved.dtype.itemsize < tensor.dtype.itemsize
        return tensor.to(moved.device) if rounded else moved

    return apply


class GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm over dimension 1 whose training statistics are those of the global batch, on any back end.

    `nn.SyncBatchNorm` refuses CPU tensors, and plain BatchNorm before SIGReg would normalize each rank by itself. Its
    parameters and buffers are those of `nn.BatchNorm1d`, and on one rank so is its arithmetic. Input `(rows, channels)`
    or `(rows, channels, height, width)`. `global_batch_norms` makes every BatchNorm of a module one of these.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected an input of shape (rows, channels, ...), got {tuple(x.shape)}")

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Self:
        return super()._apply(in_float32(fn), *args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A class that was made at run time has no name that pickle could find: its kind is made global again.
        rebuild, arguments, *state = super().__reduce_ex__(protocol)
        plain = vars(type(self)).get("_plain_kind")
        return (rebuild, arguments, *state) if plain is None else (_new_global, (plain,), *state)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        rows = x.float().transpose(0, 1).flatten(1)
        count = all_reduce_sum(rows.new_full((1,), rows.shape[1]))
        mean = all_reduce_sum(rows.sum(1)) / count
        # Two passes: the difference of squares would lose digits that SIGReg's gradient needs.
        var = all_reduce_sum((rows - mean[:, None]).square().sum(1)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                momentum = 1.0 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_((var * count / (count - 1)).to(self.running_var), momentum)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        scale = torch.rsqrt(var + self.eps)
        if self.affine:
            scale = self.weight * scale
        shift = (self.bias if self.affine else 0.0) - mean * scale
        normalized = (x.float() * scale.view(shape) + shift.view(shape)).to(x.dtype)
        # timm's BatchNormAct2d drops and activates what it has normalized.
        for name in ("drop", "act"):
            normalized = getattr(self, name, _unchanged)(normalized)
        return normalized


def _unchanged(x: Tensor) -> Tensor:
    return x


@cache
def _global_kind(kind: type[_BatchNorm]) -> type[GlobalBatchNorm]:
    members = {"__doc__": GlobalBatchNorm.__doc__, "_plain_kind": kind}
    return type(f"Global{kind.__name__}", (GlobalBatchNorm, kind), members)


def _new_global(kind: Any) -> GlobalBatchNorm:
    """What pickle fills: of the global kind, and nothing in it."""
    made = _global_kind(kind)
    return made.__new__(made)


def global_batch_norms(module: nn.Module) -> nn.Module:
    """Makes every BatchNorm inside a module use the statistics of the global batch while it trains, in place.

    Parameters, buffers and their names, settings and (on one rank) arithmetic stay what they are. Subclasses keep their
    own arithmetic on one rank; what they do after normalizing has to be called `drop` and `act`, as in timm, to be done
    on several too.

    Returns:
        `module`.
    """
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and not isinstance(norm, GlobalBatchNorm | nn.SyncBatchNorm):
            norm.__class__ = _global_kind(norm.__class__)
    return module


def quadrature(knots: int, t_max: float) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes on `[0, t_max]`, the target characteristic function there, and the weights; each `(knots,)` float32.

    The weights are those of the trapezoid rule, doubled for the symmetric half line and multiplied by the window.
    """
    # The explicit device survives construction under the meta device; the explicit dtype survives `dtype=bfloat16`.
    t = torch.arange(knots, device="cpu", dtype=torch.float32) * (t_max / (knots - 1))
    phi = torch.exp(-t.square() / 2)
    weights = torch.full((knots,), 2 * t_max / (knots - 1), device="cpu", dtype=torch.float32)
    weights[[0, -1]] /= 2
    return t, phi, weights * phi


def sigreg_bounds(config: LeWMConfig, batch_size: int) -> tuple[float, float]:
    """SIGReg's expected value on perfect N(0, I), and its least value where all embeddings of a batch coincide.

    The first does not depend on the batch size: `sum_k w_k (1 - phi_k^2)`; the second is proportional to it:
    `batch_size * sum_k w_k (1 - phi_k)^2`.
    """
    _, phi, weights = (value.double() for value in quadrature(config.sigreg_knots, config.sigreg_t_max))
    gaussian = (weights * (1 - phi.square())).sum()
    collapsed = batch_size * (weights * (1 - phi).square()).sum()
    return float(gaussian), float(collapsed)


class _SummedWaves(torch.autograd.Function):
    """Sums over the batch of `cos(x t)` and `sin(x t)`, `(time, batch, M)` and `(knots,)` -> `(time, M, knots)` each.

    Cosines and sines are each other's derivatives: autograd would compute all of them a second time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        angles = x.unsqueeze(-1) * t
        real, imaginary = angles.cos(), angles.sin()
        ctx.save_for_backward(real, imaginary, t)
        return real.sum(1), imaginary.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_real: Tensor, grad_imaginary: Tensor) -> tuple[Tensor, None]:
        real, imaginary, t = ctx.saved_tensors
        grad = real * (grad_imaginary * t).unsqueeze(1)
        return grad.addcmul_(imaginary, (grad_real * t).unsqueeze(1), value=-1).sum(-1), None


class SIGReg(nn.Module):
    """Sketched isotropic Gaussian regularization.

    Args:
        dim: size D of an embedding.
        knots, t_max: quadrature nodes, equispaced on `[0, t_max]`.
        projections: number M of random directions.
    """

    def __init__(self, dim: int, knots: int = 17, t_max: float = 3.0, projections: int = 1024):
        super().__init__()
        self.dim, self.knots, self.t_max, self.projections = dim, knots, t_max, projections
        self.step = 0
        for name, value in zip(("t", "phi", "weights"), quadrature(knots, t_max), strict=True):
            self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def reset_buffers(self) -> None:
        """Refills the constants: `from_pretrained` builds on the meta device and returns such buffers as garbage."""
        for name, value in zip(("t", "phi", "weights"), quadrature(self.knots, self.t_max), strict=True):
            init.copy_(getattr(self, name), value)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Self:
        return super()._apply(in_float32(fn), *args, **kwargs)

    def directions(self, seed: int, step: int) -> Tensor:
        """Unit directions `(D, M)` on the CPU: a pure function of `(seed, step)`, hence the same on every rank."""
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
        drawn = torch.randn(self.dim, self.projections, generator=generator, dtype=torch.float32, device="cpu")
        return nn.functional.normalize(drawn, dim=0)

    @torch.compiler.disable
    def _next_directions(self) -> Tensor:
        if not self.training:
            return self.directions(0, 0)
        self.step += 1
        return self.directions(0, self.step)

    def forward(self, embeddings: Tensor, directions: Tensor | None = None) -> Tensor:
        """Mean over time steps and directions of the statistic, a scalar in float32.

        Args:
            embeddings: `(time, batch, dim)`, the local share of the batch. Statistics are per time step over the
                global batch; all ranks must hold equally many rows.
            directions: `(dim, projections)`, columns of any positive length; see `directions`. By default
                `directions(0, n)` in the module's n-th call in training mode and `directions(0, 0)` in evaluation
                mode: the same on every rank, and a repeated evaluation repeats its result.
        """
        if directions is None:
            directions = self._next_directions()
        with torch.autocast(embeddings.device.type, enabled=False):
            directions = nn.functional.normalize(directions.to(embeddings.device, torch.float32), dim=0)
            real, imaginary = _SummedWaves.apply(embeddings.float() @ directions, self.t)
            batch = embeddings.shape[1] * world_size()
            real, imaginary = all_reduce_sum(real) / batch, all_reduce_sum(imaginary) / batch
            error = (real - self.phi).square() + imaginary.square()  # (time, projections, knots)
            return batch * (error @ self.weights).mean()
