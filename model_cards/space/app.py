"""A world model to play with: click on a start and a goal, watch it plan, see what surprises it.

    python app.py --checkpoints DIR_OR_HUB_ID ...

Only widgets here: what a click means is in `clicks.py`, what the agent does in `stage.py`, what is drawn in
`pictures.py`.
"""

import argparse
import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from clicks import CLICKS, Refused
from pictures import curves, film
from stage import ACTOR, GUIDED, SEARCH, VIEW_SIZE, Stage, Wishes

HERE = Path(__file__).resolve().parent
VARIABLE = "LEWM_CHECKPOINTS"
PORT = 7860
EVENTS = {"nothing happens": "unperturbed", "a teleport": "teleport", "the color changes": "color"}
AGENTS = {
    GUIDED: "the planner, started by the actor", ACTOR: "the actor alone", SEARCH: "the planner alone",
}  # fmt: skip
INTRODUCTION = """# Choose a goal, watch a world model plan
The agent has seen nothing but pictures and the actions between them. It imagines where actions lead, in the space of
its embeddings, and looks for those that end near the goal's. **Click on a picture** to change the start or the goal,
then press **Plan**. Let the world cheat on the way, and see whether the model notices.
([paper](https://arxiv.org/abs/2603.19312))"""
EXPLANATION = """The planner compares squared distances between embeddings; the upper curve shows how far the agent was
from the goal in these terms. **Surprise** is the squared error of the embedding that the model expected, from the
frames and actions before. The model was never told what is possible."""
WAITING = '<div class="waiting">The film and the curves of the next plan appear here.</div>'
CSS = """
.gradio-container { max-width: 1240px !important; margin: auto }
#start img, #goal img { cursor: crosshair; box-shadow: 0 0 0 1px #d5d8e0 }
#film .html-container, #curves .html-container { padding: 0 }
#film img, #curves img { width: 100%; display: block; background: white; border-radius: 8px }
.waiting { padding: 150px 24px; text-align: center; opacity: .55; border: 1px dashed; border-radius: 8px }
"""

# An OpenGL context belongs to the thread that made it, and Gradio answers from many.
_thread = ThreadPoolExecutor(1)


def on_stage(function: Callable, *arguments: Any) -> Any:
    """Calls a function where all environments live, one call at a time."""
    return _thread.submit(copy_context().run, function, *arguments).result()


def find_checkpoints() -> list[str]:
    """`LEWM_CHECKPOINTS`, separated by blanks, else every folder of a checkpoint inside or beside this one."""
    if os.environ.get(VARIABLE, "").strip():
        return os.environ[VARIABLE].split()
    configs = sorted([*HERE.glob("*/config.json"), *HERE.parent.glob("*/config.json")])
    folders = [path.parent for path in configs if (path.parent / "model.safetensors").is_file()]
    kinds = [json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") for folder in folders]
    return [str(folder) for folder, kind in zip(folders, kinds, strict=True) if kind != "lewm_decoder"]


def open_stages(sources: Sequence[str]) -> tuple[dict[str, Stage], list[str]]:
    """What can be shown, by title, and one line for everything that cannot, saying what would help."""
    stages, notes = {}, []
    for source in sources:
        try:
            stage = on_stage(Stage, source)
        except (ImportError, OSError, ValueError) as error:
            notes.append(f"Left out {Path(source).name}: {' '.join(str(error).split())}")
        else:
            stages[stage.title if stage.title not in stages else f"{stage.title} ({source})"] = stage
    return stages, notes


def embed(data: bytes, kind: str, text: str) -> str:
    return f'<img alt="{text}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def build(stages: Mapping[str, Stage], notes: Sequence[str]) -> gr.Blocks:
    """The page. Start and goal live in the visitor's session, everything else in the arguments of a call."""
    first = next(iter(stages.values()))

    def redraw(title: str, task: tuple) -> tuple:
        return task, *(on_stage(stages[title].picture, state) for state in task)

    def choose(title: str, seed: float | None) -> tuple:
        clicks = CLICKS[stages[title].name]
        part = gr.Radio(choices=list(clicks.parts), value=clicks.parts[0], visible=len(clicks.parts) > 1)
        angle = gr.Slider(label=clicks.angle or "", visible=clicks.angle is not None)
        agents = stages[title].agents
        who = gr.Radio([(AGENTS[one], one) for one in agents], value=agents[0], visible=len(agents) > 1)
        return part, angle, who, *draw(title, seed)

    def draw(title: str, seed: float | None) -> tuple:
        try:
            return redraw(title, on_stage(stages[title].sample, int(seed or 0)))
        except ValueError as error:
            return refuse(error, 3)

    def click(which: int) -> Callable:
        def place(title: str, task: tuple, part: str, angle: float, event: gr.SelectData) -> tuple:
            x, y = ((pixel + 0.5) / VIEW_SIZE for pixel in event.index)
            try:
                state = on_stage(stages[title].place, task[which], part, x, y, angle)
            except Refused as error:
                return refuse(error, 3)
            return redraw(title, (state, task[1]) if which == 0 else (task[0], state))

        return place

    def plan(
        title: str, task: tuple, who: str, event: str, samples: float, iterations: float, blocks: float,
        budget: float, seed: float | None, progress=gr.Progress(),  # noqa: B008
    ) -> tuple:  # fmt: skip
        if task is None:
            return refuse(ValueError("draw a start and a goal first"), 3)
        stage, (start, goal) = stages[title], task
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

    with gr.Blocks(title="LeWorldModel plans", fill_width=True, analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        task = gr.State()
        with gr.Row():
            with gr.Column(scale=6):
                title = gr.Dropdown(
                    list(stages), value=first.title, label="Environment and checkpoint", elem_id="title"
                )
                with gr.Row():
                    start, goal = _picture("Start", "start"), _picture("Goal", "goal")
                part = gr.Radio([], label="A click places", visible=False, elem_id="part")
                angle = gr.Slider(-180, 180, 0, step=5, info="degrees, for the next click", visible=False)
                with gr.Row():
                    shuffle = gr.Button("Random start and goal", min_width=200, elem_id="shuffle")
                    go = gr.Button("Plan", variant="primary", min_width=200, elem_id="plan")
                who = gr.Radio([(AGENTS[SEARCH], SEARCH)], value=SEARCH, label="Who acts", visible=False, elem_id="who")
                event = gr.Radio(list(EVENTS), value=next(iter(EVENTS)), label="On the way", elem_id="event")
                with gr.Accordion("Planner", open=False):
                    with gr.Row():
                        samples = gr.Slider(20, 300, 100, step=20, label="candidate plans")
                        iterations = gr.Slider(1, 30, 8, step=1, label="iterations")
                    with gr.Row():
                        blocks = gr.Slider(1, 5, 1, step=1, label="action blocks until the next plan, of 5")
                        budget = gr.Slider(50, 200, 100, step=25, label="steps at most")
                    seed = gr.Number(0, label="seed", precision=0, minimum=0, maximum=2**31 - 1)
                    gr.Markdown("It takes the goal for 25 steps away, and looks no farther ahead.")
                gr.Markdown(EXPLANATION)
            with gr.Column(scale=7):
                verdict = gr.Markdown(elem_id="verdict")
                moving = gr.HTML(WAITING, elem_id="film")
                drawn = gr.HTML(elem_id="curves")
        if notes:
            gr.Markdown("\n".join(f"- {note}" for note in notes), elem_id="notes")

        scene = [task, start, goal]
        gr.on([title.change, page.load], choose, [title, seed], [part, angle, who, *scene], show_progress="hidden")
        # The seed on show is the one that drew what is on show.
        shuffle.click(lambda seed: int(seed or 0) + 1, seed, seed, show_progress="hidden").then(
            draw, [title, seed], scene, show_progress="hidden"
        )
        for which, picture in enumerate((start, goal)):
            picture.select(click(which), [title, task, part, angle], scene, show_progress="hidden")
        wishes = [who, event, samples, iterations, blocks, budget, seed]
        go.click(plan, [title, task, *wishes], [verdict, moving, drawn], show_progress_on=moving)
    return page


def _picture(name: str, elem_id: str) -> gr.Image:
    with gr.Column(min_width=200):
        gr.Markdown(f"**{name}** (click to change)")
        return gr.Image(
            show_label=False, elem_id=elem_id, interactive=False, format="png", buttons=[], width="100%", min_width=200
        )  # fmt: skip


def refuse(error: Exception, outputs: int) -> tuple:
    """One line for the visitor; nothing else changes."""
    gr.Warning(str(error)[:1].upper() + str(error)[1:])
    return (gr.skip(),) * outputs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--checkpoints", nargs="+", metavar="DIR_OR_HUB_ID", help=f"default: ${VARIABLE}, else the folders beside this"
    )
    parser.add_argument("--host", help="address to listen on; default: this machine alone")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    args = parser.parse_args(arguments)
    stages, notes = open_stages(args.checkpoints or find_checkpoints())
    if not stages:
        raise SystemExit("\n".join(notes) or f"no checkpoint found: name folders or Hub ids, or set {VARIABLE}")
    build(stages, notes).launch(
        server_name=args.host,
        server_port=args.port,
        css=CSS,
        theme=gr.themes.Soft(),
        ssr_mode=False,
        footer_links=["gradio"],
    )


if __name__ == "__main__":
    main()
