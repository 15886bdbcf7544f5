"""A world model at work in its environment, with a person watching. No user interface here.

What plans, what surprises and what happens comes from the library; this file only puts it together.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clicks
import numpy as np
import torch
from torch import Tensor

from lewm_hf.action_blocks import to_blocks
from lewm_hf.evaluation.common.agent import check_agent
from lewm_hf.evaluation.common.embeddings import encode
from lewm_hf.evaluation.common.inputs import open_agent, open_decoder
from lewm_hf.evaluation.success.imagination import imagine
from lewm_hf.evaluation.surprise.events import happen
from lewm_hf.evaluation.surprise.scores import surprise_curve
from lewm_hf.planning.actor import ActorPolicy
from lewm_hf.planning.block_policy import BlockPolicy
from lewm_hf.planning.costs import goal_cost
from lewm_hf.planning.mpc import MPCPolicy
from lewm_hf.planning.planners import load_planner
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.registry import make_env, short_name
from lewm_hf.tasks.rollout import episode_rng, roll_out

VIEW_SIZE = 320  # pixels, for people; the model sees its own size
GOAL_OFFSET = 25  # steps from start to goal, as in the paper's protocol
EPISODE_STEPS, MOST_EPISODES = 100, 100
# Who acts: a search from nothing, a short one around the actor's proposal, the actor by itself.
SEARCH, GUIDED, ACTOR = "search", "guided", "actor"
TITLES = {"two_room": "TwoRoom", "push_t": "PushT", "reacher": "Reacher", "cube": "Cube"}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the visitor asks for.

    Args:
        who: `"search"`; or, where the checkpoint has an actor, `"guided"` by it or the `"actor"` itself.
        samples, iterations: of the search from nothing. The paper's are 300 and 30.
        blocks: action blocks executed before the next plan.
        budget: environment steps, rounded up to whole action blocks.
        event: `"unperturbed"`, `"color"` or `"teleport"`.
        seed: of the planner's noise and of the event.
    """

    who: str = SEARCH
    samples: int = 100
    iterations: int = 8
    blocks: int = 1
    budget: int = 100
    event: str = "unperturbed"
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """One episode of T steps, F block boundaries.

    Attributes:
        states: `(T + 1, state)`, before the first and after every step.
        goal: `(state,)`.
        success: whether the last state reached the goal; the action block was carried out to its end.
        steps: until the goal was reached, else T.
        plan_steps: steps before which plans were made.
        seconds_per_plan: mean.
        event_step: the first step that shows the event, `None` without one.
        changed: factors of variation from then on.
        latent_distance: `(F,)` squared distance of embedding and goal's, what the planner brings down.
        surprise: `(F - history_size,)` as `lewm surprise` measures it.
        imagined: `(T + 1, H, W, 3)` uint8, what the model expected to see, `None` without a decoder.
        frameskip: steps from one block boundary to the next.
    """

    states: np.ndarray
    goal: np.ndarray
    success: bool
    steps: int
    plan_steps: list[int]
    seconds_per_plan: float
    event_step: int | None
    changed: dict[str, Any]
    latent_distance: np.ndarray
    surprise: np.ndarray
    imagined: np.ndarray | None
    frameskip: int


@dataclass
class _Recorder:
    states: list[np.ndarray] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)


class Stage:
    """A checkpoint and the environment it was trained in, once as the model sees it and once larger, for people.

    Every call sets the environments from its arguments, so nothing passes from one visitor to the next. All calls have
    to come from one thread, because an OpenGL context belongs to one.

    Args:
        source: folder or Hub id of a checkpoint whose `training.json` says what it was trained on. A decoder in the
            folder of the same name with `-decoder` behind it draws what is imagined.

    Raises:
        ImportError: where the environment's extra is not installed, naming it.
        OSError, ValueError: one line, where there is no usable checkpoint, or no way to draw the environment.
    """

    def __init__(self, source: str):
        self.agent = open_agent(source)
        if self.agent.trained_on is None:
            raise ValueError(f"{source} does not say what it was trained on: put its training.json beside its weights")
        self.name, self.config = short_name(self.agent.trained_on), self.agent.model.config
        kwargs = dict(self.agent.env_kwargs)
        self.world = make_env(self.name, **kwargs, image_size=self.config.image_size)
        self.view = make_env(self.name, **kwargs, image_size=VIEW_SIZE)
        check_agent(self.agent, self.world, self.agent.trained_on)
        drawn = Path(f"{source.rstrip('/')}-decoder")
        self.decoder = open_decoder(drawn, self.agent) if drawn.is_dir() else None
        self.view.reset(seed=0)  # draws: a missing OpenGL shows now

    @property
    def film_every(self) -> int:
        """Steps between the pictures of a film: without a GPU, one of the cube's takes half a second."""
        return self.config.frameskip if self.name == "cube" else 1

    @property
    def agents(self) -> tuple[str, ...]:
        """Who can act with this checkpoint, best first."""
        return (GUIDED, ACTOR, SEARCH) if getattr(self.config, "has_actor", False) else (SEARCH,)

    @property
    def title(self) -> str:
        return f"{TITLES[self.name]} · {self.agent.source.rstrip('/').split('/')[-1]}"

    def sample(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Start and goal, at rest, as in the protocol `clean`: 25 steps apart in an episode of the policy that collects
        this environment's data, the start no solution, TwoRoom's in different rooms.

        Raises:
            ValueError: where no such pair turns up.
        """
        env, policy = self.view, make_expert(self.name)
        for episode in range(MOST_EPISODES):
            rng = episode_rng(seed, episode)
            states = roll_out(env, policy, rng, EPISODE_STEPS).states
            starts, goals = states[:-GOAL_OFFSET], states[GOAL_OFFSET:]
            fits = ~env.reached(starts, goals)
            fits &= env.crosses(starts, goals)
            if fits.any():
                chosen = rng.choice(np.flatnonzero(fits))
                return env.at_rest(starts[chosen]), env.at_rest(goals[chosen])
        raise ValueError(f"seed {seed} leads to no start and goal: try another one")

    def place(self, state: np.ndarray, part: str, x: float, y: float, angle: float) -> np.ndarray:
        """See `clicks.place`."""
        return clicks.place(self.name, self.view, state, part, x, y, angle)

    def picture(self, state: np.ndarray) -> np.ndarray:
        """`(VIEW_SIZE, VIEW_SIZE, 3)` uint8."""
        _set(self.view, state, state)
        return self.view.render()

    def pictures(self, run: Run) -> np.ndarray:
        """The states of a run, every so many of them, with the look that they had: `(n, VIEW_SIZE, VIEW_SIZE, 3)`."""
        every = self.film_every
        _set(self.view, run.states[0], run.goal)
        drawn = []
        for step in range(0, len(run.states), every):
            if run.event_step is not None and step - every < run.event_step <= step:
                _set(self.view, run.states[step], run.goal, run.changed)
            drawn.append(self.view.goal_image(run.states[step]))
        return np.stack(drawn)

    def run(
        self, start: np.ndarray, goal: np.ndarray, wishes: Wishes, progress: Callable[[int, int], None] | None = None
    ) -> Run:
        """Plans and acts until the goal is reached, with an event not before that has happened, or the budget is spent.

        Args:
            progress: called with the steps done and the budget before every plan.

        Raises:
            ValueError: where the start is a solution already, or wishes contradict each other.
        """
        world, frameskip = self.world, self.config.frameskip
        _set(world, start, goal)
        if world.is_success():
            raise ValueError("the start solves this goal already: click on another goal")
        # A prediction without and one with the event: surprise needs `history_size` frames before it.
        event_step = None if wishes.event == "unperturbed" else (self.config.history_size + 1) * frameskip
        budget = -(-wishes.budget // frameskip) * frameskip
        policy = self._policy(wishes)
        goal_frame = world.goal_image()
        policy.reset([0], [0], goals=[goal_frame], steps_left=GOAL_OFFSET)
        record, plan_steps, seconds, changed, reached_at = _Recorder(), [], 0.0, {}, None
        for step in range(budget):
            if step == event_step:
                changed = happen(world, wishes.event, np.random.default_rng([wishes.seed, 1]))
            record.states.append(world.get_state())
            if step % frameskip == 0:
                record.frames.append(world.render())
            plans = policy.wants_frame()[0]
            if plans:
                plan_steps.append(step)
                if progress is not None:
                    progress(step, budget)
            clock = time.perf_counter()
            action = policy.act(record.frames[-1:] if plans else ())[0]
            seconds += plans * (time.perf_counter() - clock)
            record.actions.append(action)
            success = world.step(action)[2]
            if success and reached_at is None and (event_step is None or step >= event_step):
                reached_at = step + 1
            if reached_at is not None and (step + 1) % frameskip == 0:
                break
        record.states.append(world.get_state())
        record.frames.append(world.render())
        actions = np.stack(record.actions)
        distance, surprise = self._judge(np.stack([*record.frames, goal_frame]), actions)
        return Run(
            states=np.stack(record.states),
            goal=goal,
            success=reached_at is not None,
            steps=reached_at or len(record.actions),
            plan_steps=plan_steps,
            seconds_per_plan=seconds / len(plan_steps),
            event_step=event_step,
            changed=changed,
            latent_distance=distance,
            surprise=surprise,
            imagined=self._imagined(record.frames, actions, plan_steps, policy.context_frames),
            frameskip=frameskip,
        )

    def summary(self, run: Run) -> str:
        """What happened, in Markdown."""
        end = self.view.distance(run.states[run.steps][None], run.goal[None])[0]
        verdict = (
            f"Reached the goal after {run.steps} steps" if run.success else f"Missed the goal in {run.steps} steps"
        )
        plans = f"{len(run.plan_steps)} plans, {1000 * run.seconds_per_plan:.0f} ms each"
        return f"### {verdict}\n{plans} · ends {end:.3g} from the goal ({self.view.distance_unit})"

    def _policy(self, wishes: Wishes) -> BlockPolicy:
        model, processor, changes = self.agent.model, self.agent.processor, {"receding_horizon": wishes.blocks}
        if wishes.who not in self.agents:
            raise ValueError(f"this checkpoint has no actor: choose {SEARCH}")
        if wishes.who == ACTOR:
            return ActorPolicy(model, processor, retry=load_planner("actor-guided").retry)
        if wishes.who == GUIDED:
            return MPCPolicy(model, processor, load_planner("actor-guided", changes), seed=wishes.seed)
        changes |= {
            "samples": wishes.samples, "iterations": wishes.iterations, "elites": max(2, wishes.samples // 7),
        }  # fmt: skip
        return MPCPolicy(model, processor, load_planner("goal-time-small", changes), seed=wishes.seed)

    def _imagined(
        self, frames: list[np.ndarray], actions: np.ndarray, plan_steps: list[int], context_frames: int
    ) -> np.ndarray | None:
        """Pictures of what the model expected while each plan was carried out."""
        if self.decoder is None:
            return None
        looked = {number * self.config.frameskip: frame for number, frame in enumerate(frames)}
        expected = imagine(self.agent.model, self.agent.processor, looked, plan_steps, actions, context_frames)
        with torch.no_grad():
            return self.decoder.pictures(expected.flatten(1)).cpu().numpy()

    def _judge(self, frames: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent distance to the goal and surprise, from the frames at block boundaries and, last, the goal's."""
        *_, goal = latents = encode(self.agent.model, self.agent.processor, frames)["embeddings"]
        latents = latents[:-1]
        distance: Tensor = goal_cost(latents[None, :, None], goal[None])[0]
        blocks = to_blocks(torch.from_numpy(actions), self.config)
        if len(latents) <= self.config.history_size:
            return distance.numpy(), np.zeros(0)
        return distance.numpy(), surprise_curve(self.agent.model, latents, blocks)


def _set(env, state: np.ndarray, goal: np.ndarray, changed: dict[str, Any] | None = None) -> None:
    options = {
        "variation": [], "variation_values": changed or {}, "state": state, "goal": goal, "goal_image": False,
    }  # fmt: skip
    env.reset(options=options)
