"""What gymnasium environments answer to `reset` and `step`: many were written for an earlier interface, and what goes
wrong inside of one has to be found by who wrote it.
"""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium

CHECKER = "gymnasium.utils.env_checker.check_env says what else"


def asked_to_reset(
    env: gymnasium.Env, env_id: str, seed: int, options: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Observation and info.

    Raises:
        ValueError: one line where it takes other arguments, answers something else, or fails.
    """
    try:
        with _place_named(env_id, "reset"):
            answer = env.reset(seed=seed, options=dict(options) if options else None)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(
            f"{env_id} does not take what gymnasium gives ({error}): write reset(self, *, seed=None, options=None); "
            f"{CHECKER}"
        ) from error
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
        raise ValueError(f"{env_id} answers reset with {_kind(answer)}: return (observation, info), a dict; {CHECKER}")
    return answer


def asked_to_step(env: gymnasium.Env, env_id: str, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Observation, reward, whether it has terminated, whether it was truncated, and info.

    Raises:
        ValueError: one line where it answers something else, or fails.
    """
    with _place_named(env_id, "step"):
        answer = env.step(action)
    if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], dict)):
        raise ValueError(
            f"{env_id} answers step with {_kind(answer)}: return (observation, reward, terminated, truncated, info), "
            f"the last a dict; {CHECKER}"
        )
    observation, reward, terminated, truncated, info = answer
    return observation, float(reward), bool(terminated), bool(truncated), info


def _kind(answer: Any) -> str:
    if isinstance(answer, tuple):
        return f"{len(answer)} things ({', '.join(type(one).__name__ for one in answer)})"
    return f"one thing ({type(answer).__name__})"


@contextmanager
def _place_named(env_id: str, what: str) -> Iterator[None]:
    """Errors that commands say in one line name their line in the environment: nothing else tells where they arose."""
    try:
        yield
    except (ValueError, OSError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{env_id} failed in {what} ({type(error).__name__}: {error}; line {place.lineno} of "
            f"{Path(place.filename).name}): mend it"
        ) from error
