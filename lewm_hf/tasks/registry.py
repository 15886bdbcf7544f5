"""The register of tasks: the four of the paper, those of installed packages, and those of the user's own code."""

import importlib.util
import logging
import re
from importlib import import_module
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING, Any

from ..extras import requires_extra
from ..offered import BROKEN, load_offered, offered_names
from .cube.task import TASK as CUBE
from .push_t.task import TASK as PUSH_T
from .reacher.task import TASK as REACHER
from .task import Recording, Task
from .two_room.task import TASK as TWO_ROOM

if TYPE_CHECKING:
    from .state_env import StateEnv

logger = logging.getLogger(__name__)

# A package offers tasks by naming them in its metadata: `maze = "my_package.maze:TASK"`.
ENTRY_POINTS = "lewm_hf.tasks"
# Steps of an episode in an environment without a limit of its own.
UNLIMITED = 200
OWN = (TWO_ROOM, PUSH_T, REACHER, CUBE)
_registered: dict[str, Task] = {task.name: task for task in OWN}


def register_task(task: Task) -> Task:
    """Makes a task known by its name and its gymnasium id, wherever this package takes an environment.

    Registering an equal task again changes nothing. Worker processes get the task with their work.

    Returns:
        `task`.

    Raises:
        ValueError: where another task has the name or the id.
    """
    for known in _registered.values():
        if known == task:
            return known
        if known.name == task.name or _plain_id(known) == _plain_id(task):
            raise ValueError(
                f"task {task.name} ({task.env_id}) is registered already, as {known.name} ({known.env_id}): choose "
                "another name and id"
            )
    _registered[task.name] = task
    return task


def task_names() -> tuple[str, ...]:
    """Names of all tasks: of this package, of the user's code so far, and of installed packages, not loaded for it."""
    return tuple(dict.fromkeys([*_registered, *offered_names(ENTRY_POINTS)]))


def find_task(name: str | Task) -> Task:
    """The task behind a short name (`"two_room"`) or a gymnasium id (`"lewm/TwoRoom-v0"`).

    `"my_module:maze"` imports `my_module`, which registers the task, and then looks for `maze`. Any other gymnasium id
    is a task, too: `"Pendulum-v1"`, or `"my_module:MyTask-v0"` where importing `my_module` registers `MyTask-v0`; see
    `AnyGymnasiumEnv` for what becomes of its environment.

    Raises:
        ValueError: for an unknown name, listing the known ones.
        ImportError: where the module, or the installed package that offers the task, cannot be imported.
    """
    if isinstance(name, Task):
        return register_task(name)
    if (task := _lookup(name)) is not None:
        return task
    offered = offered_names(ENTRY_POINTS)
    for one in [name] if name in offered else offered if "/" in name else []:
        _load(one, required=one == name)
    module, colon, rest = name.rpartition(":")
    if colon and _lookup(rest) is None:
        try:
            import_module(module)
        except BROKEN as error:
            reason = " ".join(str(error).split())
            raise ImportError(
                f"{name}: {module} cannot be imported ({reason}): mend it; is its folder on the path?"
            ) from error
    if (task := _lookup(rest) or _of_gymnasium(name)) is not None:
        return task
    raise ValueError(
        f"unknown environment {name!r}: use one of {', '.join(task_names())}, the id of any gymnasium environment such "
        "as Pendulum-v1 or my_module:MyTask-v0, or register_task a task of your own"
    )


def short_name(name: str) -> str:
    """The short name behind a short name or a gymnasium id.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    return find_task(name).name


def ships(name: str) -> bool:
    """Whether a task, by short name or gymnasium id, is one of this package's own."""
    return find_task(name) in OWN


def lasting_name(name: str) -> str:
    """What another process finds a task by: its short name where a package offers it, else its gymnasium id, with the
    module that registers it.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    task = find_task(name)
    return task.name if task in OWN or task.name in offered_names(ENTRY_POINTS) else task.env_id


def register_envs() -> None:
    """Registers the environments of all tasks so far with gymnasium; calling it again changes nothing.

    Raises:
        ImportError: where gymnasium is missing, naming the pip extra.
    """
    for task in list(_registered.values()):
        _register_env(task)


def make_env(name: str | Task, **kwargs: Any) -> "StateEnv":
    """The unwrapped environment of a task, by short name or gymnasium id.

    An environment that is no `GoalEnv` comes wrapped in an `AnyGymnasiumEnv`.

    Args:
        name: of the task.
        **kwargs: of the environment's constructor.

    Raises:
        ValueError: for an unknown name, or argument values that the environment refuses.
        ImportError: where the environment's library is missing, naming the pip extra.
    """
    task = find_task(name)
    gymnasium = _register_env(task)
    with requires_extra(task.extra or "envs"):
        if not knows_goals(task):
            from .any_gymnasium import AnyGymnasiumEnv

            return AnyGymnasiumEnv(task.env_id, **kwargs)
        try:
            return gymnasium.make(task.env_id, disable_env_checker=True, **kwargs).unwrapped
        except TypeError as error:
            reason = str(error).partition(" was raised from")[0]
            if "unexpected keyword argument" not in reason:
                raise
            raise ValueError(f"arguments {kwargs} do not fit {task.env_id}: {reason}") from error


def _register_env(task: Task) -> Any:
    with requires_extra("tworoom"):
        import gymnasium
    if task.entry_point is not None and _plain_id(task) not in gymnasium.registry:
        gymnasium.register(_plain_id(task), entry_point=task.entry_point, max_episode_steps=task.max_episode_steps)
    return gymnasium


def knows_goals(name: str | Task) -> bool:
    """Whether a task's environment is a `GoalEnv`, which draws its goals; of others `make_env` makes one.

    A function may make anything. It is believed to make one of a task that somebody wrote, unless that says that it is
    `plain`; of a bare gymnasium id it is not.
    """
    task = find_task(name)
    return not (task.plain or _is_plain(_register_env(task), task))


def _is_plain(gymnasium: Any, task: Task) -> bool:
    from .goal_env import GoalEnv

    module, _, env_id = task.env_id.rpartition(":")
    try:
        if module:
            import_module(module)
        creator = gymnasium.spec(env_id).entry_point
        if isinstance(creator, str):
            module, _, attribute = creator.partition(":")
            creator = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, gymnasium.error.Error):
        if task.extra:
            raise
        return True  # which says better what is missing
    return not issubclass(creator, GoalEnv) if isinstance(creator, type) else task.plain is None


def _of_gymnasium(name: str) -> Task | None:
    """A task made of nothing but a gymnasium id; `None` where gymnasium knows no such id."""
    if importlib.util.find_spec("gymnasium") is None:
        return None
    import gymnasium

    module, _, env_id = name.rpartition(":")
    spec = gymnasium.registry.get(env_id)
    if spec is None:
        return None
    slug = re.sub(r"[^a-z0-9]+", "_", env_id.lower()).strip("_")
    source = spec.entry_point if isinstance(spec.entry_point, str) else getattr(spec.entry_point, "__module__", "")
    return register_task(
        Task(
            name=slug if slug[0].isalpha() else f"env_{slug}",
            env_id=name,
            # Where nothing but the id would be lost on the way to a worker that has not registered it.
            entry_point=None if module or spec.kwargs or spec.additional_wrappers else spec.entry_point,
            max_episode_steps=spec.max_episode_steps or UNLIMITED,
            recording=Recording(stop_at_success=False),
            libraries=tuple(packages_distributions().get(source.partition(".")[0], ())),
            plain=None,
        )
    )


def _plain_id(task: Task) -> str:
    return task.env_id.rpartition(":")[2]


def _lookup(name: str) -> Task | None:
    for task in _registered.values():
        if name in (task.name, task.env_id, _plain_id(task)):
            return task
    return None


def _load(name: str, required: bool) -> None:
    try:
        task = load_offered(ENTRY_POINTS, name, "task")
    except ImportError as error:
        if required:
            raise
        logger.warning("%s", error)
        return
    if not isinstance(task, Task):
        raise ValueError(f"task {name} of an installed package is not a Task: {task!r}")
    register_task(task)
