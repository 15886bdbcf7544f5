"""What a reader of a card copies: how to install, six lines that run as they stand, how to cite."""

from collections.abc import Mapping, Sequence
from typing import Any

BIBTEX = """@article{maes2026leworldmodel,
  title   = {{LeWorldModel}: Stable End-to-End Joint-Embedding Predictive Architecture from Pixels},
  author  = {Maes, Lucas and Le Lidec, Quentin and Scieur, Damien and LeCun, Yann and Balestriero, Randall},
  journal = {arXiv preprint arXiv:2603.19312},
  year    = {2026}
}"""


def install(env_id: str | None) -> str:
    """What `pip install` is given for a checkpoint of this environment."""
    if env_id is None:
        return "lewm-hf"
    from ...tasks.registry import find_task  # who writes cards of recordings needs no environment

    extra = find_task(env_id).extra
    return f"'lewm-hf[{extra}]'" if extra else "lewm-hf"


def planner_snippet(
    source: str,
    env_id: str | None,
    env_kwargs: Mapping[str, Any],
    image_size: int,
    shape: str,
    proprioception: int = 0,
    planner: str | None = None,
    cameras: Sequence[str] = (),
) -> str:
    """Plans between two pictures: of the environment, where there is one, else blank ones in place of the reader's.

    Args:
        source: what `from_pretrained` gets.
        env_kwargs: how the environment of the training episodes was made.
        image_size: of the pictures.
        shape: of the planned actions, as it is shown.
        proprioception: numbers that the model wants beside each picture; then nothing is asked of the environment.
        planner: name of the one to search with; default: `LeWMPlanner`'s own search.
        cameras: of a model that sees several; then nothing is asked of the environment either.
    """
    arguments = f'"{source}"' if planner is None else f'"{source}", planner="{planner}"'
    if proprioception:
        return f"""import numpy
from lewm_hf import LeWMPlanner

planner = LeWMPlanner.from_pretrained({arguments})
now = goal = {_blank(image_size, cameras)}  # put two pictures in their place
body = numpy.zeros({proprioception})  # and what is recorded beside each: planner.model.config.proprioception_key
plan = planner({{"observation": now, "proprioception": body, "goal": goal, "goal_proprioception": body}})
plan["actions"]  # {shape} float32, in the units of the recordings"""
    if env_id is None or cameras:
        return f"""import numpy
from lewm_hf import LeWMPlanner

planner = LeWMPlanner.from_pretrained({arguments})
now = goal = {_blank(image_size, cameras)}  # put two pictures in their place
plan = planner({{"observation": now, "goal": goal}})
plan["actions"]  # {shape} float32, in the units of the recordings"""
    from ...tasks.registry import knows_goals, ships

    if not knows_goals(env_id):
        return f"""from lewm_hf import LeWMPlanner, make_env

planner = LeWMPlanner.from_pretrained({arguments})
env = make_env({_arguments(env_id, env_kwargs, image_size)})
env.reset(seed=0)
goal = env.render()  # or any other picture of how things should be
env.reset(seed=1)
plan = planner({{"observation": env.render(), "goal": goal}})
plan["actions"]  # {shape} float32, environment units: just execute them"""
    if not ships(env_id):
        return f"""from lewm_hf import LeWMPlanner, make_env

planner = LeWMPlanner.from_pretrained({arguments})
env = make_env({_arguments(env_id, env_kwargs, image_size)})
_, info = env.reset(seed=0)
plan = planner({{"observation": env.render(), "goal": info["goal"]}})
plan["actions"]  # {shape} float32, environment units: just execute them"""
    return f"""import gymnasium, lewm_hf.envs
from lewm_hf import LeWMPlanner

planner = LeWMPlanner.from_pretrained({arguments})
env = gymnasium.make({_arguments(env_id, env_kwargs, image_size)})
_, info = env.reset(seed=0)
plan = planner({{"observation": env.render(), "goal": info["goal"]}})
plan["actions"]  # {shape} float32, environment units: just execute them"""


def actor_snippet(source: str, env_id: str | None, image_size: int, shape: str, cameras: Sequence[str] = ()) -> str:
    """Lets a model that only imitates act: on the pairs that ship with its environment, else between two pictures.

    Args:
        source, env_id, image_size, cameras: see `planner_snippet`.
        shape: of an action, as it is shown.
    """
    if env_id is not None and not cameras:
        from ...tasks.registry import ships

        if ships(env_id):
            return f"""from lewm_hf.evaluation.success.run import evaluate

evaluate("{source}", policy="actor", n=10).result["success"]  # on the pairs that ship with the package"""
    return f"""import numpy
from lewm_hf import ActorPolicy
from transformers import AutoImageProcessor, AutoModel

model, processor = AutoModel.from_pretrained("{source}").eval(), AutoImageProcessor.from_pretrained("{source}")
now = goal = {_blank(image_size, cameras)}  # put two pictures in their place
policy = ActorPolicy(model, processor)
policy.reset([0], problems=[0], goals=[goal])
policy.act([now])  # {shape} float32, in the units of the recordings"""


def decoder_snippet(
    source: str,
    world_model: str,
    env_id: str | None,
    env_kwargs: Mapping[str, Any],
    image_size: int,
    cameras: Sequence[str] = (),
) -> str:
    """Draws what a world model sees in a picture of its environment, where there is one, else in a blank one.

    Args:
        source, world_model: what `from_pretrained` gets.
        env_id, env_kwargs, image_size, cameras: see `planner_snippet`.
    """
    if env_id is None or cameras:
        return f"""import numpy, torch
from lewm_hf import LeWMDecoder, LeWMPlanner

planner, decoder = LeWMPlanner.from_pretrained("{world_model}"), LeWMDecoder.from_pretrained("{source}")
picture = {_blank(image_size, cameras)}  # put one of the recordings' kind in its place
with torch.no_grad():
    embeddings = planner.model.encode(planner.image_processor([picture])["pixel_values"][None])
    pictures = decoder.pictures(embeddings)  # (1, 1, {image_size}, {image_size}, 3) uint8"""
    from ...tasks.registry import ships

    modules, names, make = ("gymnasium, lewm_hf.envs, torch", "LeWMDecoder, LeWMPlanner", "gymnasium.make")
    if not ships(env_id):
        modules, names, make = ("torch", "LeWMDecoder, LeWMPlanner, make_env", "make_env")
    return f"""import {modules}
from lewm_hf import {names}

planner, decoder = LeWMPlanner.from_pretrained("{world_model}"), LeWMDecoder.from_pretrained("{source}")
env = {make}({_arguments(env_id, env_kwargs, image_size)})
env.reset(seed=0)
with torch.no_grad():
    embeddings = planner.model.encode(planner.image_processor([env.render()])["pixel_values"][None])
    pictures = decoder.pictures(embeddings)  # (1, 1, {image_size}, {image_size}, 3) uint8"""


def _blank(image_size: int, cameras: Sequence[str]) -> str:
    """A black picture, or one of each camera, which side by side are square as well."""
    size = f"({image_size * max(1, len(cameras))}, {image_size}, 3)"
    picture = f"numpy.zeros({size}, numpy.uint8)"
    return f"{{camera: {picture} for camera in {list(cameras)!r}}}" if cameras else picture


def _arguments(env_id: str, env_kwargs: Mapping[str, Any], image_size: int) -> str:
    look = {"image_size": image_size} | {name: value for name, value in env_kwargs.items() if name != "image_size"}
    return ", ".join([f'"{env_id}"', *(f"{name}={value!r}" for name, value in look.items())])
