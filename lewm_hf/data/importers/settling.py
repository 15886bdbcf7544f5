"""What an import is before the first frame is written: source, environment and mapping must agree about it."""

import logging

import numpy as np

from ...tasks.registry import make_env
from ...tasks.task import Task
from ..storage.encoding import check_image_format
from .frames import Conversion
from .source import Source
from .work import Import

logger = logging.getLogger(__name__)

# Whole numbers that take so many values in some episodes name something, rather than say how much.
LABELS, LOOKED_AT = range(3, 65), 20


def settle(
    source: Source, sizes: dict[str, int], kept: np.ndarray, task: Task | None, image_size: int | None,
    image_format: str | None, largest: int | None = None,
) -> Import:  # fmt: skip
    """What an import is, once it is known how large its frames are and how fast; looks at one frame.

    Args:
        sizes: role -> size of its vectors.
        kept: positions of the episodes that are imported.
        task: the environment's, if any.
        image_size, largest, image_format: see `import_dataset`.

    Raises:
        ValueError: one line for a source that does not fit the environment or the mapping.
    """
    path, mapping, fps = source.path, source.mapping, source.fps
    every, width = mapping.every or 1, sizes["action"]
    if width % every or mapping.action_dim not in (None, width // every):
        stated = {"action_dim": mapping.action_dim, "every": mapping.every}
        said = " and ".join(f"{name}: {value}" for name, value in stated.items() if value)
        raise ValueError(
            f"the actions of {path} have {width} dimensions, the mapping says {said}: correct the mapping, or map "
            "other columns"
        )
    if not mapping.action_choices:
        _tell_of_labels(source, kept)
    if "goal" in sizes and sizes["goal"] != sizes.get("state"):
        raise ValueError(
            f"goals of {path} have {sizes['goal']} dimensions, states {sizes.get('state', 'no')}: map `state` and "
            "`goal` to columns of the same size"
        )
    if task is not None:
        probe = make_env(task)
        own_fps = probe.metadata["render_fps"] / every
        expected = {"action": every * probe.action_space.shape[0], "state": len(probe.state_names)}
        probe.close()
        for role, size in expected.items():
            if sizes.get(role, size) != size:
                raise ValueError(
                    f"the {role}s of {path} have {sizes[role]} dimensions, {task.name} has {size}: map other columns, "
                    "or import without an environment"
                )
        fps = own_fps if fps is None else fps
        if not np.isclose(fps, own_fps, rtol=1e-3):
            raise ValueError(
                f"{path} has {fps:g} frames per second, {task.name} has {own_fps:g}: import without an environment, or "
                "correct fps in the mapping"
            )
    if fps is None:
        raise ValueError(
            f"nothing tells the frames per second of {path}: give the environment, or fps in a mapping or in a recipe"
        )
    frame = next(source.frames(int(kept[0])))
    conversion = Conversion.for_frame(frame, image_size, mapping.fit)
    if mapping.fit is not None and largest is not None and conversion.side > largest:
        conversion = Conversion.for_frame(frame, largest, mapping.fit)
    image_format = image_format or (task.recording.image_format if task else "webp0")
    check_image_format(image_format)
    env = None if task is None else task.env_id
    return Import(source, conversion, image_format, fps, env, {"image_size": conversion.side} if env else {})


def choices_of(task: Task) -> tuple[int, ...]:
    """How many values each choice of an environment's action has; none where its actions are amounts."""
    env = make_env(task)
    choices = getattr(env.action_space, "choices", ())
    env.close()
    return tuple(choices)


def _tell_of_labels(source: Source, kept: np.ndarray) -> None:
    """Says where actions look like numbers of buttons: a model takes the second for twice the first."""
    for name in source.mapping.action:
        parts = [source.column(name, int(episode)) for episode in kept[:LOOKED_AT]]
        values = np.unique(np.concatenate([part.ravel() for part in parts]))
        if parts[0].dtype.kind in "iu" and len(values) in LABELS:
            logger.warning(
                "column %r of %s holds whole numbers, %d different ones: they are learned and planned as amounts; "
                "where they name choices, say how many each has, such as action_choices: [%d] in a mapping or "
                "--action_choices %d of a training",
                name, source.path, len(values), values.max() + 1, values.max() + 1,
            )  # fmt: skip
