"""A real robot's loop: pictures come from a camera, actions leave at a fixed rate, plans take as long as they take."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np

from ..action_blocks import same_rate
from ..plain_numbers import plain
from ..proprioception_lewm import columns_of

logger = logging.getLogger(__name__)

WHILE_LATE = ("rest", "hold", "zero")
# How often a wait looks whether somebody pressed Ctrl-C.
LOOK_SECONDS = 0.05


class LoopPolicy(Protocol):
    """What the loop asks: `MPCPolicy` and `ActorPolicy` are such, with one environment."""

    def reset(self, env_ids: Sequence[int], problems: Sequence[Any], goals: Any, *, steps_left: Any = None) -> None: ...

    def wants_frame(self) -> np.ndarray: ...

    def act(self, frames: Any = (), proprioception: Any = None) -> np.ndarray: ...

    def ahead(self, env_id: int) -> np.ndarray: ...

    def missed(self, env_id: int, steps: int) -> None: ...


@dataclass
class LoopReport:
    """What happened in one run.

    Attributes:
        ticks: actions sent, the last idle one aside.
        plans: plans that arrived.
        late_plans: of them, those that were not there when their first action was due.
        late_ticks: actions sent in their stead, see `while_late`.
        overruns: ticks that came after their time because camera, action or the loop itself took too long.
        plan_seconds: how long each plan took, picture to actions.
        stopped: `"steps"`, `"until"`, or the name of the exception that ended the run.
    """

    ticks: int = 0
    plans: int = 0
    late_plans: int = 0
    late_ticks: int = 0
    overruns: int = 0
    plan_seconds: list[float] = field(default_factory=list)
    stopped: str = "steps"

    def __str__(self) -> str:
        slowest = max(self.plan_seconds, default=0.0)
        return (
            f"{self.ticks} actions, {self.plans} plans of {slowest:.3f} s at most; {self.late_plans} plans were late, "
            f"{self.late_ticks} actions sent in their stead; {self.overruns} ticks overran; stopped: {self.stopped}"
        )


@dataclass(frozen=True)
class _Segment:
    """A plan `(steps, action_dim)`, of which `execute` actions are to be executed before the next look."""

    plan: np.ndarray
    execute: int
    seconds: float


class RobotLoop:
    """Acts at a fixed rate while a thread plans: no tick ever waits for a plan beyond its own period.

        policy = MPCPolicy(planner.model, planner.image_processor)
        loop = RobotLoop(policy, camera, robot.send)
        report = loop.run(goal_picture, steps=300)

    At the end of every executed stretch of a plan the camera's picture goes to the planning thread. If the next plan is
    there within `patience` of the tick's period, its first action is sent; otherwise the plan is late, and until it
    comes every tick sends what `while_late` says:
        `"rest"`: what follows in the last plan, if it is long enough, else `idle`. The new plan is entered where the
            clock is: actions whose time has passed are skipped.
        `"hold"`: the last action again, for actions that are positions. The new plan starts at its beginning.
        `"zero"`: `idle`, for actions that are velocities or forces. The new plan starts at its beginning.
    Late steps count towards the goal's deadline, and frames from before them are no context of the next plan.

    However a run ends, `idle` is sent last: after its steps, after an exception of camera, action or planner, and after
    Ctrl-C, both of which are raised again. The first plan is awaited before the clock starts, while nothing moves.

    Args:
        policy: an `MPCPolicy` or `ActorPolicy` of one environment, or a `LeWMPlanner`, which becomes an `MPCPolicy`
            with its settings, and with how its named planner plans again; else it does so after every block.
        camera: returns the newest picture `(H, W, 3)` uint8 at once; it is called in the loop.
        act: sends one action `(action_dim,)` float32, in environment units, and returns at once.
        hz: ticks per second. Default: `actions_per_second` of the model's config, the rate of the episodes that it was
            trained on; it has to be given where the config states none.
        other_rate: run at this `hz` although the config states another rate: the same actions then move a robot
            further, or less far, than the model expects.
        proprioception: of a model that was trained with it: returns what the robot reports of itself, `(N,)` in the
            units of the recordings, at once; it is called right after the camera.
        while_late: `"rest"`, `"hold"` or `"zero"`.
        idle: `(action_dim,)` an action that keeps the robot where it is; default: zeros.
        patience: share of a tick's period that a plan may take before it is late, in [0, 1).

    Attributes:
        report: of the last run, also where it ended in an exception.

    Raises:
        ValueError: for a rate, patience or way of being late that makes no sense, a rate other than the config's
            without `other_rate`, an idle action of another size, or a camera or an `act` that is no function.
    """

    def __init__(
        self,
        policy: Any,
        camera: Callable[[], np.ndarray],
        act: Callable[[np.ndarray], Any],
        *,
        hz: float | None = None,
        other_rate: bool = False,
        proprioception: Callable[[], np.ndarray] | None = None,
        while_late: str = "rest",
        idle: Sequence[float] | np.ndarray | None = None,
        patience: float = 0.5,
    ):
        if while_late not in WHILE_LATE:
            raise ValueError(f"while_late={while_late!r} is unknown: use one of {', '.join(WHILE_LATE)}")
        patience = plain(patience)
        if type(patience) not in (int, float) or not 0 <= patience < 1:
            raise ValueError(f"patience={patience!r} must lie in [0, 1): it is a share of a tick's period")
        for name, function in (("camera", camera), ("act", act), ("proprioception", proprioception)):
            if not callable(function) and not (name == "proprioception" and function is None):
                raise ValueError(f"{name} of type {type(function).__name__} must be a function, which the loop calls")
        self.policy: LoopPolicy = _policy_of(policy)
        config = self.policy.model.config
        hz, size = _rate_of(config, hz, other_rate), config.action_dim
        self.idle = np.zeros(size, dtype=np.float32) if idle is None else np.asarray(idle, dtype=np.float32)
        if self.idle.shape != (size,) or not np.isfinite(self.idle).all():
            raise ValueError(f"idle={idle!r} must be {size} finite numbers, one per action dimension")
        if getattr(self.policy, "num_envs", 1) != 1:
            raise ValueError(f"the policy acts in {self.policy.num_envs} environments, but a robot is one: num_envs=1")
        if getattr(self.policy, "wants_proprioception", False) != (proprioception is not None):
            raise ValueError(
                "this model was trained on pictures alone: leave proprioception away" if proprioception else
                f"this model was trained with proprioception, {columns_of(config)}: give a function that returns it"
            )  # fmt: skip
        self.camera, self.act, self.period = camera, act, 1.0 / hz
        self.proprioception = proprioception
        self.while_late, self.patience = while_late, patience
        self.report = LoopReport()

    def run(
        self,
        goal: Any,
        *,
        goal_proprioception: np.ndarray | None = None,
        steps: int | None = None,
        until: Callable[[], bool] | None = None,
        steps_left: int | None = None,
        problem: int | str = 0,
    ) -> LoopReport:
        """Acts towards a goal.

        Args:
            goal: its picture, or a list of several, none of them exact (see `MPCPolicy`'s `goals`).
            goal_proprioception: of a model that was trained with it: what the robot would report of itself at the goal.
            steps: ticks after which to stop; without it, until `until` says so, or Ctrl-C.
            until: asked before every tick; ends the run when it returns `True`.
            steps_left: ticks until the goal is due, if somebody knows.
            problem: decides the planner's noise.

        Returns:
            What happened, `report`.

        Raises:
            ValueError: for fewer than one step, or a goal of another size than the camera's pictures.
            Whatever camera, action or planner raise, and KeyboardInterrupt, once the robot idles.
        """
        steps = plain(steps)
        if steps is not None and (type(steps) is not int or steps < 1):
            raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
        if until is not None and not callable(until):
            raise ValueError(f"until={until!r} must be a function, which the loop asks before every tick")
        beside = {} if goal_proprioception is None else {"goal_proprioception": [goal_proprioception]}
        self.policy.reset([0], [problem], [goal], **beside, steps_left=steps_left)
        self.report = report = LoopReport()
        planning = _Planning(self.policy)
        try:
            self._go(planning, report, steps, until)
        except BaseException as error:
            report.stopped = type(error).__name__
            raise
        finally:
            try:
                self.act(self.idle.copy())
            finally:
                planning.stop()
                logger.info("the robot's loop ended: %s", report)
        return report

    def _look(self) -> tuple[np.ndarray, ...]:
        """The camera's picture, and what the robot reports of itself where the model wants it."""
        picture = self.camera()
        return (picture,) if self.proprioception is None else (picture, self.proprioception())

    def _go(
        self, planning: "_Planning", report: LoopReport, steps: int | None, until: Callable[[], bool] | None
    ) -> None:
        planning.ask(self._look(), 0, False)
        segment = planning.wait()  # nothing moves yet, and nothing is late
        report.plans, report.plan_seconds = 1, [segment.seconds]
        at, waited, asked, last = 0, 0, False, self.idle
        # What to tell the policy with the next picture: steps it did not choose, and whether its context is broken.
        missed, broken = 0, False
        due = time.perf_counter()
        while steps is None or report.ticks < steps:
            if until is not None and until():
                report.stopped = "until"
                return
            if not asked and at >= segment.execute:
                planning.ask(self._look(), missed, broken)
                asked, waited = True, 0
            if asked and (found := planning.get(due + self.patience * self.period - time.perf_counter())) is not None:
                segment, asked = found, False
                at = min(waited, segment.execute) if self.while_late == "rest" else 0
                report.plans += 1
                report.plan_seconds.append(segment.seconds)
                report.late_plans += waited > 0
                broken, missed = waited > 0, max(0, waited - at)
                if at >= segment.execute:  # it came when its time was over
                    planning.ask(self._look(), missed, broken)
                    asked, waited = True, 0
            if asked:
                report.late_ticks += 1
                waited += 1
                last, at = self._instead(segment, at, last)
            else:
                last = segment.plan[at]
                at += 1
            self.act(last.copy())
            report.ticks += 1
            due += self.period
            late = time.perf_counter() - due
            if late > 0:
                report.overruns += 1
                due += late
            else:
                time.sleep(-late)

    def _instead(self, segment: _Segment, at: int, last: np.ndarray) -> tuple[np.ndarray, int]:
        """What is sent while a plan is late, and how far the old one has come."""
        if self.while_late == "hold":
            return last, at
        if self.while_late == "rest" and at < len(segment.plan):
            return segment.plan[at], at + 1
        return self.idle, at


class _Planning:
    """The thread that plans: one picture at a time, in order. Nobody else touches the policy meanwhile."""

    def __init__(self, policy: LoopPolicy):
        self._policy = policy
        self._pictures: queue.Queue = queue.Queue()
        self._answers: queue.Queue = queue.Queue()
        self._thread = threading.Thread(target=self._plan, name="lewm-planning", daemon=True)
        self._thread.start()

    def ask(self, seen: tuple[np.ndarray, ...], missed: int, broken: bool) -> None:
        """Hands over the picture that the next plan starts from, and what comes with it."""
        self._pictures.put((seen, missed, broken))

    def get(self, seconds: float) -> _Segment | None:
        """The plan that was asked for, `None` where it does not come within so many seconds.

        Raises:
            Whatever the planner raised.
        """
        try:
            answer = self._answers.get(timeout=seconds) if seconds > 0 else self._answers.get_nowait()
        except queue.Empty:
            return None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def wait(self) -> _Segment:
        """The plan that was asked for, whenever it comes."""
        while (found := self.get(LOOK_SECONDS)) is None:
            pass
        return found

    def stop(self) -> None:
        """Ends the thread; a plan in the making is given up by the time it is done."""
        with suppress(queue.Empty):
            self._pictures.get_nowait()
        self._pictures.put(None)
        self._thread.join()

    def _plan(self) -> None:
        policy = self._policy
        while (asked := self._pictures.get()) is not None:
            (seen, missed, broken), clock = asked, time.perf_counter()
            try:
                if broken:
                    policy.missed(0, missed)
                first = policy.act(*({0: part} for part in seen))
                plan = np.concatenate([first, policy.ahead(0)])
                execute = 1
                while not policy.wants_frame()[0]:
                    policy.act(())
                    execute += 1
                self._answers.put(_Segment(plan, execute, time.perf_counter() - clock))
            except BaseException as error:  # raised again in the loop, where the robot is stopped
                self._answers.put(error)
                return


def _rate_of(config: Any, hz: float | None, other: bool) -> float:
    """Ticks per second: those that are given, else those of the training episodes.

    Raises:
        ValueError: where nobody states them, or the two differ and `other` does not say that this is meant.
    """
    hz = plain(hz)
    trained: float | None = getattr(config, "actions_per_second", None)
    if hz is None:
        if trained is None:
            raise ValueError("the checkpoint does not state its training episodes' rate: give hz, actions per second")
        return trained
    if type(hz) not in (int, float) or not 0 < hz < float("inf"):
        raise ValueError(f"hz={hz!r} must be a positive number of actions per second")
    if trained is not None and not other and not same_rate(hz, trained):
        raise ValueError(
            f"hz={hz:g}, but the model was trained on {trained:g} actions per second and expects what those do: leave "
            "hz away, or add other_rate=True if the robot is to run at another rate all the same"
        )
    return hz


def _policy_of(policy: Any) -> Any:
    if hasattr(policy, "wants_frame"):
        return policy
    if not hasattr(policy, "image_processor"):
        raise ValueError(
            f"policy of type {type(policy).__name__} neither acts nor plans: give an MPCPolicy, an ActorPolicy or a "
            "LeWMPlanner"
        )
    from .mpc import MPCPolicy
    from .planners import SEARCH, Planner

    settings = policy.settings
    named = policy.planner or Planner(name="robot-loop")
    planner = replace(
        named, **{name: getattr(settings, name) for name in SEARCH},
        receding_horizon=min(named.receding_horizon, settings.horizon),
    )  # fmt: skip
    others = [entry.name for entry in fields(settings) if entry.name not in SEARCH]
    return MPCPolicy(
        policy.model, policy.image_processor, planner, **{name: getattr(settings, name) for name in others}
    )
