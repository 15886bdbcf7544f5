"""LeWM's roll-out for a search: thousands of candidates, while the weights stay what they are.

`LeWMModel.rollout` calls the model's modules, where adapters, quantizers, offloading, hooks and autograd expect to be
called. Here the same numbers are computed from weights alone, laid out once for all candidates of a search
(`fixed_weights_lewm.py`):

- what the context contributes is computed once per problem and shared by its candidates;
- on CPUs candidates are taken in portions that fit the cache, a core each, and no core waits for another one's Python
  (`recordings.py`);
- a few candidates share nothing: what would be saved is less than what another operation costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .fixed_weights_lewm import FixedWeights, Past
from .plain_modules import is_plain, modules_of
from .recordings import Recordings
from .threads import side_by_side

if TYPE_CHECKING:
    from .modeling_lewm import LeWMModel

# Candidates that one core takes at once: fewer re-read the weights too often, more do not fit its cache.
LARGEST_PORTION, SMALLEST_PORTION = 150, 32
# Roll-outs of which an operation takes longer to start than to compute. One core of an Intel Xeon with AMX, a window of
# a small predictor, 1, 16 and 32 candidates: 0.44, 0.83 and 1.23 ms; sharing what can be shared 0.70, 1.05 and 1.36.
FEW = 32
# Sums of products over longer windows would cost more than matrix products.
LONGEST_WINDOW = 8


class _Kept(NamedTuple):
    """Weights as they were laid out last, and what tells that they are still the model's. It holds nothing of it."""

    mark: tuple
    weights: FixedWeights
    recordings: Recordings


_KEPT: WeakKeyDictionary[LeWMModel, dict[torch.dtype, _Kept]] = WeakKeyDictionary()  # by model and dtype


class FixedRollout:
    """Computes what `model.rollout` does, for as long as the model's weights are what they were; see this module.

    Several threads may call it at once. Gradients go through the model instead.

    Args:
        model: the world model.
        weights: its own, laid out.
        recordings: of what was computed with these weights before; `None` where there can be none, or weights are laid
            out for one search alone.
    """

    def __init__(self, model: LeWMModel, weights: FixedWeights, recordings: Recordings | None):
        self.model, self.weights, self.recordings = model, weights, recordings
        self.cores = torch.get_num_threads()

    def __call__(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """`(B, C, D)`, `(B, S, T, A)` -> `(B, S, T, D)`; see `LeWMModel.rollout`."""
        if torch.is_grad_enabled() and candidates.requires_grad:
            return self.model.rollout(context, candidates, executed)
        context, executed = self.model.check_rollout(context, candidates, executed)
        with torch.no_grad(), torch.autocast(context.device.type, enabled=False):
            parts, few = [candidates], candidates.shape[:2].numel() <= FEW
            on_cpu = context.device.type == "cpu"
            if on_cpu and not few:
                parts = candidates.split(self._portion(*candidates.shape[:2]), 1)
            imagine = self._imagine_few if few else self._imagine
            if on_cpu and self.cores > 1 and self.recordings is not None:
                imagine = partial(self.recordings, imagine, self.weights.tensors)

            def without_gradients(part: Tensor) -> Tensor:
                with torch.inference_mode():
                    return imagine(context, part, executed)

            # Concatenated out there, where tensors are made that everything may be done with.
            return torch.cat(side_by_side(without_gradients, parts, self.cores), 1).to(context.dtype)

    def _portion(self, problems: int, samples: int) -> int:
        """Candidates of a portion. Does not depend on which thread asks, nor do the bits of a plan therefore."""
        most = max(SMALLEST_PORTION, min(LARGEST_PORTION, math.ceil(problems * samples / self.cores))) // problems
        return math.ceil(samples / math.ceil(samples / max(1, most)))

    def _imagine(self, context: Tensor, candidates: Tensor, executed: Tensor | None) -> Tensor:
        history, frames, steps = self.weights.history, context.shape[1], candidates.shape[2]
        shared = frames - 1
        modulations = self.weights.modulations(candidates.permute(2, 0, 1, 3))
        tokens = context.transpose(0, 1)[:, :, None].to(self.weights.wide)  # (C, B, 1, D)
        known = None if executed is None else self.weights.modulations(executed.transpose(0, 1)[:, :, None])
        past: Sequence[Past | None] | None = None
        new, imagined, begin = list(tokens[shared:].split(1)), [], 0
        for end in range(frames, frames + steps):
            start = max(0, end - history)
            if past is None or start > 0:  # positions are re-indexed: nothing computed before is still true
                past, begin = [None] * len(self.weights.layers), max(start, shared)
                if known is not None and start < shared:
                    rows, conditions = tokens[start:shared], [every[:, start:shared] for every in known]
                    _, past = self.weights.predict(rows, conditions, 0, past)
            window = slice(begin - shared, end - shared)
            rows = torch.cat([token.expand(-1, -1, candidates.shape[1], -1) for token in new[window]])
            hidden, past = self.weights.predict(rows, [every[:, window] for every in modulations], begin - start, past)
            begin = end
            imagined.append(self.weights.pred_proj(hidden).to(self.weights.wide))
            new.append(imagined[-1])
        return torch.cat(imagined).permute(1, 2, 0, 3)

    def _imagine_few(self, context: Tensor, candidates: Tensor, executed: Tensor | None) -> Tensor:
        """The same where operations take longer than their arithmetic: all there is goes through at once."""
        history, frames, (samples, steps) = self.weights.history, context.shape[1], candidates.shape[1:3]
        if executed is not None:
            candidates = torch.cat([executed[:, None].expand(-1, samples, -1, -1), candidates], 2)
        modulations = self.weights.modulations(candidates.permute(2, 0, 1, 3))
        tokens = context.transpose(0, 1)[:, :, None].expand(-1, -1, samples, -1).to(self.weights.wide)
        for end in range(frames, frames + steps):
            window = slice(max(0, end - history), end)
            hidden = self.weights.predict_window(tokens[window], [every[:, window] for every in modulations])
            tokens = torch.cat([tokens, self.weights.pred_proj(hidden).to(self.weights.wide)])
        return tokens[frames:].permute(1, 2, 0, 3)

    def stepwise(self, context: Tensor, executed: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """Imagines futures whose blocks answer them: a function of the next blocks `(N, A)`, to latents `(N, D)`.

        Args:
            context: `(N, C, D)`, `executed` `(N, C - 1, A)`, as `rollout` takes them.
        """
        none = context.new_zeros(len(context), 1, 1, self.model.config.action_block_size)
        context, executed = self.model.check_rollout(context, none, executed)
        weights, history, device = self.weights, self.weights.history, context.device.type
        tokens, modulations = list(context.transpose(0, 1)[:, :, None].to(weights.wide).split(1)), []
        if executed is not None:
            known = weights.modulations(executed.transpose(0, 1)[:, :, None])
            modulations = list(zip(*(every.split(1, 1) for every in known), strict=True))

        def further(blocks: Tensor) -> Tensor:
            with torch.inference_mode(), torch.autocast(device, enabled=False):
                modulations.append(tuple(weights.modulations(blocks[None, :, None])))
                window = zip(*modulations[-history:], strict=True)
                hidden = weights.predict_window(torch.cat(tokens[-history:]), [torch.cat(every, 1) for every in window])
                tokens.append(weights.pred_proj(hidden).to(weights.wide))
            return tokens[-1][0, :, 0].to(context.dtype).clone()

        return further


def prepare(model: LeWMModel, types: tuple[type, ...], dtype: torch.dtype | None = None) -> FixedRollout | None:
    """A `FixedRollout`, or `None` where something stands between the weights and what the modules would compute.

    Args:
        model: a LeWM.
        types: of the modules that its roll-out runs through; any other, derived ones too, has to be called.
        dtype: see `FixedRollout`; default: the model's.
    """
    modules = modules_of(model.action_encoder, model.predictor, model.pred_proj)
    tensors = [tensor for module in modules for tensor in (*module._parameters.values(), *module._buffers.values())]
    tensors = [tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()]
    if model.config.history_size > LONGEST_WINDOW or any(module.training for module in modules):
        return None
    if len({tensor.device for tensor in tensors}) > 1 or not all(is_plain(module, types) for module in modules):
        return None
    return FixedRollout(model, *_laid_out(model, tensors, model.dtype if dtype is None else dtype))


def _laid_out(model: LeWMModel, tensors: list[Tensor], dtype: torch.dtype) -> tuple[FixedWeights, Recordings | None]:
    """The model's weights, on a CPU those of the last search where nothing has changed since, and their recordings.

    Args:
        tensors: all that the weights are made of.
    """
    kept, mark = _KEPT.setdefault(model, {}), _mark(tensors)
    last = kept.get(dtype)
    if mark is None or last is None or last.mark != mark or last.weights.history != model.config.history_size:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            weights = FixedWeights(model, dtype)
        if mark is None:
            kept.pop(dtype, None)
            return weights, None
        same = last is not None and last.weights.layout == weights.layout  # as after a step of training
        kept[dtype] = last = _Kept(mark, weights, last.recordings if last and same else Recordings())
    return last.weights, None if last.weights.packed else last.recordings


@torch.no_grad()
def _mark(tensors: list[Tensor]) -> tuple | None:
    """What differs once a weight has changed; `None` where asking would cost more than laying them out.

    PyTorch counts changes of a tensor, but not those through `.data`: norms see these. On an accelerator they would
    have to be waited for.
    """
    if any(tensor.device.type != "cpu" or tensor.is_inference() for tensor in tensors):
        return None
    norms = torch._foreach_norm(tensors)
    if any(norm.dtype != torch.float32 for norm in norms):
        norms = [norm.float() for norm in norms]
    stated = tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)
    return stated, torch.stack(norms).numpy().tobytes()
