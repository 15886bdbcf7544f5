"""What the page does: each method takes values of widgets and returns new ones.

Start and goal come from the visitor's session and go back to it, so that visitors do not meet.
"""

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import gradio as gr
from clicks import CLICKS, Refused
from pictures import curves, film
from stage import ACTOR, GUIDED, SEARCH, VIEW_SIZE, Stage, Wishes

EVENTS = {"nothing happens": "unperturbed", "a teleport": "teleport", "the color changes": "color"}
AGENTS = {
    GUIDED: "the planner, started by the actor", ACTOR: "the actor alone", SEARCH: "the planner alone",
}  # fmt: skip

# An OpenGL context belongs to the thread that made it, and Gradio answers from many.
_thread = ThreadPoolExecutor(1)


def on_stage(function: Callable, *arguments: Any) -> Any:
    """Calls a function where all environments live, one call at a time."""
    return _thread.submit(copy_context().run, function, *arguments).result()


@dataclass(frozen=True)
class Answers:
    """Answers to what a visitor does.

    Attributes:
        stages: what can be shown, by title.
    """

    stages: Mapping[str, Stage]

    def choose(self, title: str, seed: float | None) -> tuple:
        """Another checkpoint: what can be placed in its pictures, who can act, and a first start and goal."""
        stage = self.stages[title]
        clicks = CLICKS[stage.name]
        part = gr.Radio(choices=list(clicks.parts), value=clicks.parts[0], visible=len(clicks.parts) > 1)
        angle = gr.Slider(label=clicks.angle or "", visible=clicks.angle is not None)
        who = gr.Radio(
            [(AGENTS[one], one) for one in stage.agents], value=stage.agents[0], visible=len(stage.agents) > 1
        )
        return part, angle, who, *self.draw(title, seed)

    def draw(self, title: str, seed: float | None) -> tuple:
        """A random start and goal."""
        try:
            return self._redraw(title, on_stage(self.stages[title].sample, int(seed or 0)))
        except ValueError as error:
            return refuse(error, 3)

    def place_start(self, title: str, task: tuple, part: str, angle: float, event: gr.SelectData) -> tuple:
        """A click on the picture of the start."""
        return self._place(title, task, 0, part, angle, event)

    def place_goal(self, title: str, task: tuple, part: str, angle: float, event: gr.SelectData) -> tuple:
        """A click on the picture of the goal."""
        return self._place(title, task, 1, part, angle, event)

    def _place(self, title: str, task: tuple, which: int, part: str, angle: float, event: gr.SelectData) -> tuple:
        x, y = ((pixel + 0.5) / VIEW_SIZE for pixel in event.index)
        try:
            state = on_stage(self.stages[title].place, task[which], part, x, y, angle)
        except Refused as error:
            return refuse(error, 3)
        return self._redraw(title, (state, task[1]) if which == 0 else (task[0], state))

    def _redraw(self, title: str, task: tuple) -> tuple:
        return task, *(on_stage(self.stages[title].picture, state) for state in task)

    def plan(
        self, title: str, task: tuple, who: str, event: str, samples: float, iterations: float, blocks: float,
        budget: float, seed: float | None, progress=gr.Progress(),  # noqa: B008
    ) -> tuple:  # fmt: skip
        """Acts, and shows what came of it: a verdict, a film and curves."""
        if task is None:
            return refuse(ValueError("draw a start and a goal first"), 3)
        stage, (start, goal) = self.stages[title], task
        wishes = Wishes(
            who=who, samples=int(samples), iterations=int(iterations), blocks=int(blocks), budget=int(budget),
            event=EVENTS[event], seed=int(seed or 0),
        )  # fmt: skip
        try:
            run = on_stage(stage.run, start, goal, wishes, lambda done, total: progress((done, total), "acting"))
        except ValueError as error:
            return refuse(error, 3)
        progress(1.0, "drawing the film")
        shown = film(run, on_stage(stage.pictures, run), on_stage(stage.picture, goal), stage.film_every)
        return (
            on_stage(stage.summary, run),
            embed(shown, "webp", "the agent beside its goal"),
            embed(curves(run, stage.config.history_size), "png", "distance to the goal and surprise, step by step"),
        )


def embed(data: bytes, kind: str, text: str) -> str:
    return f'<img alt="{text}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def refuse(error: Exception, outputs: int) -> tuple:
    """One line for the visitor; nothing else changes."""
    gr.Warning(str(error)[:1].upper() + str(error)[1:])
    return (gr.skip(),) * outputs
