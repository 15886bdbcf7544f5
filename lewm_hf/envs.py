"""`import lewm_hf.envs` registers the tasks with gymnasium: `gymnasium.make("lewm/TwoRoom-v0")`."""

from .tasks.registry import register_envs

register_envs()
