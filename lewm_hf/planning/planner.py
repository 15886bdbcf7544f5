"""One plan per problem: sample, imagine, judge, repeat. A pure function of tensors."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from ..action_blocks import from_blocks, moving
from .costs import GOALS, STEPS, Cost, goal_cost
from .noise import Problem, problem_noise
from .solvers import Solver, get_solver
from .world_model import WorldModel, candidate_bytes, check_ready

ROLLOUT_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How to search. The defaults are the paper's, for every environment.

    Args:
        solver: name of a solver, or a function with the signature of `planning.solvers.Solver`.
        horizon: length of a plan in action blocks.
        samples, iterations, elites: candidates per iteration, iterations, candidates that the next one is fitted to.
        initial_std: spread of the first candidates, in standard deviations of the data set's actions.
        cost: `"final"`, `"path"`, or a function `(predicted (B, S, T, *latent), goal) -> (B, S)` that may want any
            kind of goal; see `costs.py`.
        goals: which of several goals counts, `"min"` or `"mean"`.
        seed: of all noise. The noise of a problem depends on (seed, problem, replan) and on nothing else.
        rollout_dtype: `None` computes as the model does; `"bfloat16"` or `"float16"` runs the roll-out under autocast
            (costs stay float32). On a CPU only worthwhile with the instruction (avx512_bf16, amx).
        compile: `torch.compile` the roll-out and its cost, with CUDA graphs where there are any. Compiles once per
            number of problems, which takes up to a minute.
        memory_budget: bytes that the candidates of one roll-out may hold. Problems, and where one alone is too large
            its candidates, are taken in portions of that size.
        problem_batch: problems solved together. Default: as many as `memory_budget` allows on an accelerator, one on a
            CPU, where that is faster. With 1 a plan is the same to the last bit whatever the batch; otherwise to
            rounding, since matrix products of other sizes may add up in another order.
    """

    solver: str | Solver = "cem"
    horizon: int = 5
    samples: int = 300
    iterations: int = 30
    elites: int = 30
    initial_std: float = 1.0
    cost: Literal["final", "path"] | Cost = "final"
    goals: Literal["min", "mean"] = "min"
    seed: int = 42
    rollout_dtype: Literal["bfloat16", "float16"] | None = None
    compile: bool = False
    memory_budget: int = 8 * 2**30
    problem_batch: int | None = None

    def __post_init__(self):
        for name in ("horizon", "samples", "iterations", "elites", "memory_budget", "problem_batch"):
            value = getattr(self, name)
            if name == "problem_batch" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        if self.elites > self.samples:
            raise ValueError(f"elites={self.elites} exceeds samples={self.samples}: lower one or raise the other")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"seed={self.seed!r} must be a whole number")
        if not 0 < self.initial_std < float("inf"):
            raise ValueError(f"initial_std={self.initial_std!r} must be positive and finite")
        for name, allowed in (("cost", STEPS), ("goals", GOALS), ("rollout_dtype", (None, *ROLLOUT_DTYPES))):
            value = getattr(self, name)
            if value not in allowed and not (name == "cost" and callable(value)):
                raise ValueError(f"{name}={value!r} is unknown: use one of {list(allowed)}")
        get_solver(self.solver)


@dataclass
class PlanOutput(ModelOutput):
    """Plans for B problems.

    Args:
        actions: `(B, horizon * frameskip, action_dim)` the plans in environment units.
        costs: `(B,)` their costs, float32.
        blocks: `(B, horizon, A)` the plans as z-scored action blocks, `A = frameskip * action_dim`.
        predicted_embeddings: `(B, horizon, *latent)` where each plan leads, after each block.
        elites: `(B, elites, horizon * frameskip, action_dim)` best candidates of the last iteration, best first, in
            environment units.
        elite_costs: `(B, elites)` their costs.
        best_costs: `(B, iterations)` lowest cost that each iteration saw.
    """

    actions: Tensor | None = None
    costs: Tensor | None = None
    blocks: Tensor | None = None
    predicted_embeddings: Tensor | None = None
    elites: Tensor | None = None
    elite_costs: Tensor | None = None
    best_costs: Tensor | None = None


def _judge(
    model: WorldModel,
    cost: Literal["final", "path"] | Cost,
    goals: Literal["min", "mean"],
    portion: int,
    context: Tensor,
    executed: Tensor | None,
    goal: Tensor,
    candidates: Tensor,
) -> tuple[Tensor, Tensor]:
    """Costs `(B, S)` of candidate plans `(B, S, T, A)`, and where the last portion of them leads."""
    costs = []
    for part in candidates.split(portion, 1):
        predicted = model.rollout(context, part, executed)
        costs.append(goal_cost(predicted, goal, cost, goals) if isinstance(cost, str) else cost(predicted, goal))
    return torch.cat(costs, 1), predicted


@cache
def _compiled_judge():
    # One object per process: with a new one every plan would compile again.
    return torch.compile(_judge, mode="reduce-overhead", dynamic=False)


def _solve(model, settings: PlanSettings, portion: int, problems, replans, context, executed, goal, mean):
    """Plans for problems that fit into memory together -> solution, predicted latents, costs of the plans."""
    shape = (settings.samples, *mean.shape[1:])
    noise = problem_noise(settings.seed, problems, replans, range(settings.iterations), shape, context.device)
    if not all(moving(model.config)):  # what never moved in training stays where it was: no model knows what it does
        noise = noise * torch.tensor(moving(model.config), device=noise.device)
    imagined = (model, settings.cost, settings.goals, portion, context, executed, goal)

    def objective(candidates: Tensor) -> Tensor:
        if not settings.compile:
            return _judge(*imagined, candidates)[0]
        return _compiled_judge()(*imagined, candidates)[0].clone()  # a CUDA graph overwrites what it returned

    solution = get_solver(settings.solver)(objective, mean, lambda iteration: noise[:, iteration], settings)
    # The solver judged candidates; its plan is one more, and where that leads is what a caller wants to see.
    costs, predicted = _judge(*imagined, solution.plan[:, None])
    return solution, predicted[:, 0].to(context.dtype), costs[:, 0]


@torch.no_grad()
def plan(
    model: WorldModel,
    context: Tensor,
    goal: Tensor,
    settings: PlanSettings | None = None,
    *,
    problems: Sequence[Problem] | None = None,
    replans: Sequence[int] | int = 0,
    executed: Tensor | None = None,
    initial_plan: Tensor | None = None,
) -> PlanOutput:
    """Plans for B problems at once.

    Args:
        model: the world model, in eval mode, with action statistics in its config.
        context: `(B, C, *latent)` latents of the last C frames, `frameskip` environment steps apart.
        goal: `(B, *latent)` latents of the goals, or `(B, G, *latent)`.
        settings: how to search; the paper's settings by default.
        problems: name or number of each problem; the noise depends on it instead of on the place in the batch.
            Default: 0, 1, ..., B - 1.
        replans: how many plans each problem has had before.
        executed: `(B, C - 1, A)` z-scored action blocks between the context frames; needed if C > 1.
        initial_plan: `(B, horizon, A)` z-scored blocks where the search starts: a shifted old plan, a policy's
            proposal. Default: zeros, the mean action.

    Raises:
        ValueError: for a model in training mode or without action statistics, shapes that contradict each other or
            the config, or NaN.
    """
    settings = settings or PlanSettings()
    check_ready(model)
    batch, device = len(context), context.device
    blocks = (settings.horizon, model.config.action_block_size)
    problems = range(batch) if problems is None else problems
    replans = [replans] * batch if isinstance(replans, int) else replans
    mean = torch.zeros(batch, *blocks, device=device) if initial_plan is None else initial_plan.to(device).float()
    _check_shapes(context, goal, isinstance(settings.cost, str), executed, mean, blocks, len(problems), len(replans))

    capacity = settings.memory_budget // max(1, candidate_bytes(model, context, settings.horizon))
    portion = _even(settings.samples, capacity)
    most = settings.problem_batch or (1 if device.type == "cpu" else capacity // settings.samples)
    together = _even(batch, most)
    dtype = ROLLOUT_DTYPES.get(settings.rollout_dtype)
    solved = []
    with torch.autocast(device.type, dtype) if dtype else nullcontext():
        for start in range(0, batch, together):
            part = slice(start, start + together)
            arguments = (problems[part], replans[part], context[part], executed[part] if executed is not None else None)
            solved.append(_solve(model, settings, portion, *arguments, goal[part], mean[part]))
    solutions, predicted, costs = zip(*solved, strict=True)

    def gather(name: str) -> Tensor:
        return torch.cat([getattr(solution, name) for solution in solutions])

    found = gather("plan")
    return PlanOutput(
        actions=from_blocks(found, model.config),
        costs=torch.cat(costs),
        blocks=found,
        predicted_embeddings=torch.cat(predicted),
        elites=from_blocks(gather("elites"), model.config),
        elite_costs=gather("elite_costs"),
        best_costs=gather("best_costs"),
    )


def _even(total: int, most: int) -> int:
    """The size of equal portions of `total` that are no larger than `most`: equal shapes compile once."""
    return math.ceil(total / math.ceil(total / min(total, max(1, most))))


def _check_shapes(context, goal, judged_by_distance, executed, mean, blocks, problems: int, replans: int):
    batch, frames, *latent = context.shape
    if batch < 1 or frames < 1 or not latent:
        raise ValueError(f"context has shape {tuple(context.shape)}: expected (problems, frames, *latent)")
    for name, count in (("goal", len(goal)), ("problems", problems), ("replans", replans)):
        if count != batch:
            raise ValueError(f"{name} has {count} entries, but the context holds {batch} problems: give one for each")
    if judged_by_distance and latent not in (list(goal.shape[1:]), list(goal.shape[2:])):
        raise ValueError(f"goal has shape {tuple(goal.shape)}, but one latent of the context is {tuple(latent)}")
    if mean.shape != (batch, *blocks):
        raise ValueError(
            f"initial_plan has shape {tuple(mean.shape)}: expected (problems, horizon, A) {(batch, *blocks)}"
        )
    between = (batch, frames - 1, blocks[1])
    if (executed is not None or frames > 1) and (executed is None or executed.shape != between):
        shape = None if executed is None else tuple(executed.shape)
        raise ValueError(f"executed has shape {shape}: {frames} context frames need their action blocks, {between}")
    for name, value in (("context", context), ("goal", goal), ("initial_plan", mean), ("executed", executed)):
        if value is not None and not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite values: check the frames and the checkpoint that made it")
