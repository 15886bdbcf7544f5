"""A world model to play with: click on a start and a goal, watch it plan, see what surprises it.

    python app.py --checkpoints DIR_OR_HUB_ID ...

Only widgets here: what they do is in `answers.py`, what a click means in `clicks.py`, what the agent does in
`stage.py`, what is drawn in `pictures.py`.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from answers import AGENTS, EVENTS, Answers, on_stage
from stage import SEARCH, Stage

HERE = Path(__file__).resolve().parent
VARIABLE = "LEWM_CHECKPOINTS"
PORT = 7860
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


@dataclass(frozen=True)
class Controls:
    """The widgets by which a visitor says what to plan."""

    task: gr.State
    title: gr.Dropdown
    start: gr.Image
    goal: gr.Image
    part: gr.Radio
    angle: gr.Slider
    shuffle: gr.Button
    go: gr.Button
    who: gr.Radio
    event: gr.Radio
    samples: gr.Slider
    iterations: gr.Slider
    blocks: gr.Slider
    budget: gr.Slider
    seed: gr.Number

    @property
    def scene(self) -> list:
        """What shows the start and the goal that were chosen."""
        return [self.task, self.start, self.goal]

    @property
    def wishes(self) -> list:
        """How to act, in the order in which `Answers.plan` takes it."""
        return [self.who, self.event, self.samples, self.iterations, self.blocks, self.budget, self.seed]


def build(stages: Mapping[str, Stage], notes: Sequence[str]) -> gr.Blocks:
    """The page. Start and goal live in the visitor's session, everything else in the arguments of a call."""
    answers = Answers(stages)
    with gr.Blocks(title="LeWorldModel plans", fill_width=True, analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=6):
                controls = _controls(stages)
                gr.Markdown(EXPLANATION)
            with gr.Column(scale=7):
                verdict = gr.Markdown(elem_id="verdict")
                moving = gr.HTML(WAITING, elem_id="film")
                drawn = gr.HTML(elem_id="curves")
        if notes:
            gr.Markdown("\n".join(f"- {note}" for note in notes), elem_id="notes")
        _listen(page, controls, answers, [verdict, moving, drawn])
    return page


def _controls(stages: Mapping[str, Stage]) -> Controls:
    """Draws the left column."""
    first = next(iter(stages.values()))
    task = gr.State()
    title = gr.Dropdown(list(stages), value=first.title, label="Environment and checkpoint", elem_id="title")
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
    return Controls(
        task, title, start, goal, part, angle, shuffle, go, who, event, samples, iterations, blocks, budget, seed
    )


def _listen(page: gr.Blocks, controls: Controls, answers: Answers, shown: list) -> None:
    """Connects the widgets with what they do; `shown` takes what a plan led to."""
    title, seed, scene = controls.title, controls.seed, controls.scene
    chosen = [controls.part, controls.angle, controls.who, *scene]
    gr.on([title.change, page.load], answers.choose, [title, seed], chosen, show_progress="hidden")
    # The seed on show is the one that drew what is on show.
    controls.shuffle.click(lambda seed: int(seed or 0) + 1, seed, seed, show_progress="hidden").then(
        answers.draw, [title, seed], scene, show_progress="hidden"
    )
    for picture, place in ((controls.start, answers.place_start), (controls.goal, answers.place_goal)):
        picture.select(place, [title, controls.task, controls.part, controls.angle], scene, show_progress="hidden")
    controls.go.click(answers.plan, [title, controls.task, *controls.wishes], shown, show_progress_on=shown[1])


def _picture(name: str, elem_id: str) -> gr.Image:
    with gr.Column(min_width=200):
        gr.Markdown(f"**{name}** (click to change)")
        return gr.Image(
            show_label=False, elem_id=elem_id, interactive=False, format="png", buttons=[], width="100%", min_width=200
        )  # fmt: skip


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
