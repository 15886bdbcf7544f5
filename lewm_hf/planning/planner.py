"""One plan per problem: sample, imagine, judge, repeat. A pure function of tensors."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers.utils import ModelOutput

from ..action_blocks import block_bounds, from_blocks
from ..action_choices import Choices
from ..threads import one_thread, side_by_side
from ..world_models.base import ActingWorldModel, WorldModel
from .actor import propose, propose_around
from .judging import Judged, compiled_judge, even, judge_plans, plan_costs
from .noise import Problem, colored, problem_noise
from .plan_settings import ROLLOUT_DTYPES, PlanSettings
from .solvers import Solver, clip, solver_name
from .solvers.base import Bounds, take
from .world_model import Imaginer, candidate_bytes, check_actor, check_ready, for_search

# So few plans that answer what they imagine, a block at a time, are more Python than arithmetic, and threads would wait
# for each other: eight plans of an actor for each of 16 problems, AMD EPYC: 8 ms a problem on one core, 12 on two.
FEW_ANSWERS = 32
# Noise of proposals has a stream of its own, beside those of iterations 0, 1, ...
OF_PROPOSALS = 2**32 - 1

__all__ = ["PlanOutput", "PlanSettings", "plan"]


@dataclass
class PlanOutput(ModelOutput):
    """Plans for B problems.

    Args:
        actions: `(B, horizon * frameskip, action_dim)` the plans in environment units.
        costs: `(B,)` their costs, float32.
        blocks: `(B, horizon, A)` the plans as z-scored action blocks, `A = frameskip * action_dim`; with
            `clip_actions="executed"` they may lie beyond the bounds.
        executable: `(B, horizon, A)` the same within the bounds: `actions`, z-scored. What was executed of them is what
            a later plan's `executed` has to be.
        predicted_embeddings: `(B, horizon, *latent)` where each plan leads, after each block.
        elites: `(B, elites, horizon * frameskip, action_dim)` best candidates of the last iteration, best first, in
            environment units.
        elite_costs: `(B, elites)` their costs.
        best_costs: `(B, iterations)` lowest cost that each iteration saw.
        initial_costs: with a guard `(B,)`, costs of what it keeps, float32: where the search started, of several
            proposals the undisturbed one.
        kept: with a guard `(B,)` bool, whether it kept that.
    """

    actions: Tensor | None = None
    costs: Tensor | None = None
    blocks: Tensor | None = None
    executable: Tensor | None = None
    predicted_embeddings: Tensor | None = None
    elites: Tensor | None = None
    elite_costs: Tensor | None = None
    best_costs: Tensor | None = None
    initial_costs: Tensor | None = None
    kept: Tensor | None = None


def _solve(
    model: Imaginer,
    settings: PlanSettings,
    capacity: int,
    problems: Sequence[Problem],
    replans: Sequence[int],
    context: Tensor,
    executed: Tensor | None,
    goal: Tensor,
    mean: Tensor,
    bounds: Bounds,
    proposed: Judged | None = None,
) -> dict[str, Tensor]:
    """Plans for problems that fit into memory together, as columns of `PlanOutput` in z-space.

    Args:
        mean: where the search starts; what a guard keeps is the first of the plans that were proposed, else this.
        proposed: plans that are judged already.
    """
    solver, shape = settings.search, (settings.search.samples, *mean.shape[1:])
    white: list[Tensor] = []
    imagined = (model, settings.cost, settings.goals, settings.control_penalty, capacity, context, executed, goal)
    judge = partial(judge_plans, *imagined)
    finite: list[Tensor] = []
    judged, undisturbed = proposed, mean if proposed is None else proposed.candidates[:, 0]

    def objective(candidates: Tensor) -> Tensor:
        nonlocal judged
        if callable(bounds):  # whatever the solver mixes of choices, the model sees none that it never saw
            candidates = bounds(candidates)
        known = proposed.find(candidates) if proposed is not None and candidates.shape[1] == 1 else None
        if known is not None and not torch.is_grad_enabled():
            costs = known[0]
        elif settings.compile and not torch.is_grad_enabled():
            costs = compiled_judge()(*imagined, candidates)[0].clone()  # a CUDA graph overwrites what it returned
        else:
            costs, predicted = judge(candidates)
            # Copied: a solver may go on in the same memory, and its plan would be taken for the one it judged.
            judged = Judged(candidates.detach().clone(), costs.detach(), predicted.detach())
        finite.append(costs.detach().isfinite().all(1))
        return costs

    def noise(iteration: int, color: float = 0.0) -> Tensor:
        if not white:  # that of all iterations at once, for solvers that want any
            drawn = range(solver.iterations)
            white.append(problem_noise(settings.seed, problems, replans, drawn, shape, context.device))
        return colored(white[0][:, iteration], color, model.config.frameskip)

    solution = solver(objective, mean, noise, bounds)
    _check_finite(torch.stack(finite, 1), problems)
    # The solver judged candidates; its plan may be one more, and where that leads is what a caller wants to see.
    chosen = solution.plan
    if callable(bounds):
        chosen = _better(judge, bounds(solution.plan), bounds(solution.elites[:, 0]))
    plans = chosen[:, None]
    if settings.guard is not None:
        plans = torch.stack([chosen, bounds(undisturbed) if callable(bounds) else undisturbed], 1)
    costs, predicted = (judged and judged.find(plans)) or judge(plans)
    found, better = {}, torch.zeros(len(plans), dtype=torch.long, device=plans.device)
    if settings.guard is not None:
        kept = ~(costs[:, 0] < costs[:, 1] - settings.guard * costs[:, 1].abs())
        found, better = {"initial_costs": costs[:, 1], "kept": kept}, kept.long()
    rows = torch.arange(len(plans), device=plans.device)
    found |= {"blocks": plans[rows, better], "costs": costs[rows, better]}
    found["predicted_embeddings"] = predicted[rows, better].to(context.dtype)
    of_search = {name: getattr(solution, name) for name in ("elites", "elite_costs", "best_costs")}
    return found | of_search


def _proposed(
    model: ActingWorldModel,
    settings: PlanSettings,
    capacity: int,
    noise: Tensor,
    frame: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None],
    imaginer: Imaginer,
    bounds: Bounds,
) -> Judged:
    """The plans of an actor for some problems, the first undisturbed, and what they cost.

    Args:
        noise: `(B, proposals, horizon, A)` standard normal numbers.
        frame: context, goal, blocks left, executed blocks and features, as `propose_around` takes them.
    """
    disturbances = settings.proposal_std * noise
    disturbances[:, 0] = 0
    around = [
        propose_around(model, *frame[:3], some, *frame[3:], imaginer=imaginer, bounds=bounds)
        for some in disturbances.split(even(settings.proposals, capacity), 1)
    ]
    plans, futures = (torch.cat(parts, 1).float() for parts in zip(*around, strict=True))
    judged_by = settings.cost, settings.goals, settings.control_penalty
    return Judged(plans, plan_costs(model.config, *judged_by, frame[1], plans, futures), futures)


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
    bounds: tuple[Sequence[float], Sequence[float]] | np.ndarray | None = None,
    blocks_left: Sequence[int] | int | None = None,
    features: Tensor | None = None,
    goal_features: Tensor | None = None,
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
            proposal. Default: zeros, the mean action (of choices: none preferred), or what `settings.proposal` says.
        bounds: lowest and highest action, `(action_dim,)` each in environment units, where the config states none.
        blocks_left: action blocks until the goal is due, for the actor's proposal. Default: the horizon.
        features: `(B, F)` of the last frame, `goal_features` of the goal's, from `model.observe`: what the actor sees
            of real frames beside their latents.

    Raises:
        ValueError: for a model in training mode or without action statistics, shapes that contradict each other or
            the config, NaN, costs that are not finite, or a proposal asked of a checkpoint without an actor.
    """
    settings = settings or PlanSettings()
    check_ready(model)
    batch, device = len(context), context.device
    shape = (settings.horizon, model.config.action_block_size)
    problems = range(batch) if problems is None else problems
    replans = [replans] * batch if isinstance(replans, int) else replans
    mean = torch.zeros(batch, *shape, device=device) if initial_plan is None else initial_plan.to(device).float()
    guided = settings.proposal is not None and initial_plan is None
    _check_shapes(context, goal, isinstance(settings.cost, str), executed, mean, shape, len(problems), len(replans))
    executable = block_bounds(model.config, bounds, device, clipped=settings.clip_actions != "none")
    limits = executable
    if settings.clip_actions == "executed":
        limits = block_bounds(model.config, bounds, device, clipped=False)
    if guided:
        check_actor(model, f"proposal={settings.proposal!r}")
        left = torch.as_tensor(settings.horizon if blocks_left is None else blocks_left, device=device).expand(batch)
    if isinstance(limits, Choices):
        _check_search(settings.search)
        if initial_plan is None and not guided:
            mean = mean + limits.even()

    capacity = settings.memory_budget // max(1, candidate_bytes(model, context, settings.horizon))
    capacity = max(capacity, 1 if settings.guard is None else 2)  # a guard compares two
    samples = max(settings.search.samples, settings.proposals if guided else 1)
    most = settings.problem_batch or (1 if device.type == "cpu" else capacity // samples)
    together = even(batch, most)
    dtype = None if settings.rollout_dtype is None else ROLLOUT_DTYPES[settings.rollout_dtype]
    imaginer, parallel = for_search(model, dtype, settings.compile)
    # What a proposal imagines is in the model's own precision.
    plain = for_search(model, None, settings.compile)[0] if guided and dtype is not None else imaginer

    def solve(start: int) -> dict[str, Tensor]:
        part = slice(start, start + together)
        seen, between = context[part], executed[part] if executed is not None else None
        begin, proposed = mean[part], None
        if guided:
            real = [None if known is None else known[part] for known in (features, goal_features)]
            frame = seen, goal[part], left[part], between, *real
            if settings.proposals == 1:
                begin = propose(model, *frame[:3], settings.horizon, *frame[3:], plain).float()
            else:
                drawn = problem_noise(
                    settings.seed, problems[part], replans[part], [OF_PROPOSALS], (settings.proposals, *shape), device
                )
                proposed = _proposed(
                    cast(ActingWorldModel, model), settings, capacity, drawn[:, 0], frame, plain, limits
                )
                begin = take(proposed.candidates, proposed.costs.argmin(1, keepdim=True))[:, 0]
        if not isinstance(limits, Choices):
            begin = clip(begin, limits)
        arguments = problems[part], replans[part], seen, between, goal[part], begin, limits, proposed
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            return _solve(imaginer, settings, capacity, *arguments)

    starts = range(0, batch, together)
    parallel = parallel and isinstance(settings.cost, str)  # anybody's function may not be called by several threads
    cores, beside = torch.get_num_threads(), 0
    if parallel and not (guided and settings.proposals > 1 and samples <= FEW_ANSWERS):
        beside = len(starts) - len(starts) % cores  # as many problems as there are cores at a time
    solved = side_by_side(solve, starts[:beside])
    # What is left over, one by one, its roll-outs on all cores.
    alone = parallel and device.type == "cpu" and not getattr(settings.search, "differentiates", True)
    with one_thread() if alone else nullcontext():
        solved += map(solve, starts[beside:])
    found = {name: torch.cat([part[name] for part in solved]) for name in solved[0]}
    found["elites"] = from_blocks(clip(found["elites"], executable), model.config)
    within = clip(found["blocks"], executable)
    return PlanOutput(actions=from_blocks(within, model.config), executable=within, **found)


def _better(judge: Callable[[Tensor], tuple[Tensor, Tensor]], plan: Tensor, candidate: Tensor) -> Tensor:
    """The cheaper of two plans `(B, horizon, A)`, of each problem.

    The mean of elites that reach the goal on different ways, each value chosen by majority, may lead nowhere.
    """
    first, second = judge(torch.stack([plan, candidate], 1))[0].unbind(1)
    return torch.where((second < first)[:, None, None], candidate, plan)


def _check_search(solver: Solver) -> None:
    """Refuses to follow a slope where there are only steps.

    Raises:
        ValueError: for a solver that differentiates.
    """
    if getattr(solver, "differentiates", False):
        raise ValueError(
            f"solver={solver_name(solver)!r} follows the gradient of an action, but actions of this checkpoint are "
            "choices: use cem, icem, mppi or random"
        )


def _check_finite(finite: Tensor, problems: Sequence[Problem]) -> None:
    """Refuses costs that no solver could order; `finite` is `(B, calls of the objective)`."""
    if not finite.all():
        row, call = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"problem {problems[row]!r}: iteration {call} has costs that are NaN or infinite: check the checkpoint, "
            "the cost function (a large finite number rules a plan out), and rollout_dtype"
        )


def _check_shapes(
    context: Tensor,
    goal: Tensor,
    judged_by_distance: bool,
    executed: Tensor | None,
    mean: Tensor,
    blocks: tuple[int, int],
    problems: int,
    replans: int,
) -> None:
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
