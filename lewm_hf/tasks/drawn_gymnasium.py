"""Gymnasium environments as they are, made to draw: with one line where they cannot be made or draw nothing."""

import math
import os
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from ..plain_numbers import plain

DEFAULT_RATE = 10
# Pictures are drawn off screen. Where nobody says so, SDL looks for a screen and a sound card, and complains without
# them.
OFF_SCREEN = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}


def make_drawn(env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """An environment with its wrappers and `rgb_array` rendering, but no time limit.

    Raises:
        ValueError: one line where it cannot be made with these arguments, or renders no pictures.
        ImportError: one line where it lacks a library.
    """
    for name, value in OFF_SCREEN.items():
        os.environ.setdefault(name, value)
    try:
        env = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True, max_episode_steps=-1, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env_id} cannot be made: {_line(error)}") from error
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{env_id} needs the module {error.name!r}, which is missing: install what the environment's package asks "
            "for, or put its folder on the path"
        ) from error
    except (gymnasium.error.Error, ImportError, AttributeError) as error:
        raise ValueError(f"{env_id} cannot be made ({_line(error)}): mend its registration or its module") from error
    except TypeError as error:
        reason = _line(error).partition(" was raised from")[0]
        if "required positional argument" in reason or "required keyword-only argument" in reason:
            remedy = "give it (--env-arg NAME=VALUE)"
        elif "unexpected keyword argument" in reason:
            remedy = "let its constructor take render_mode" if "render_mode" in reason else "omit it"
        else:
            raise
        raise ValueError(f"arguments {dict(kwargs)} do not fit {env_id} ({reason}): {remedy}") from error
    modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        env.close()
        raise ValueError(
            f"{env_id} renders {list(modes) or 'nothing'}, but a world model learns from pictures: let it have the "
            "render mode 'rgb_array'"
        )
    return env


def stated_rate(env: gymnasium.Env, env_id: str) -> int | float:
    """Frames per second, `metadata["render_fps"]`; 10 where an environment states none.

    Raises:
        ValueError: one line where that is no number above 0.
    """
    rate = plain(env.metadata.get("render_fps") or DEFAULT_RATE)
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ValueError(f'{env_id} states {rate!r} frames per second: let metadata["render_fps"] be a number above 0')
    return rate


def picture_of(env: gymnasium.Env, env_id: str) -> np.ndarray:
    """What an environment renders now, `(height, width, 3)` uint8.

    Raises:
        ValueError: one line where that is no such picture.
        ImportError: one line where drawing lacks a library.
    """
    try:
        picture = env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env_id} cannot draw: {_line(error)}") from error
    return checked_picture(picture, f"{env_id} rendered", " with render_mode='rgb_array'")


def checked_picture(picture: Any, who: str, where: str = "") -> np.ndarray:
    """A picture `(height, width, 3)` uint8.

    Args:
        who, where: begin and end what the message says of anything else.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
        kind = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture)
        raise ValueError(f"{who} {kind[:80]}{where}: expected a picture (height, width, 3) uint8")
    return picture


def squared(picture: np.ndarray, size: int, fit: str) -> np.ndarray:
    """A picture `(height, width, 3)` uint8 -> `(size, size, 3)`: stretched, its middle cropped, or black borders added.

    Args:
        fit: `"stretch"`, `"crop"` or `"pad"`; a square picture is only resized.
    """
    image = Image.fromarray(picture)
    if image.width != image.height and fit != "stretch":
        side = (min if fit == "crop" else max)(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
