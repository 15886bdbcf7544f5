"""Reacher as a task."""

from ..task import Recording, Task

TASK = Task(
    name="reacher",
    env_id="lewm/Reacher-v0",
    entry_point="lewm_hf.tasks.reacher.env:ReacherEnv",
    max_episode_steps=200,
    extra="reacher",
    policies={
        "random": "lewm_hf.tasks.random_policy:RandomPolicy",
        "sac": "lewm_hf.tasks.reacher.expert:SACExpert",
    },
    recording=Recording(
        stop_at_success=False,
        image_format="webp0",
        episodes_per_file=50,
        noise="noise",
        # The released episodes come from uniformly random actions, whatever the paper says, and so do these.
        paper={"episodes": 10_000, "expert": "random"},
    ),
    columns={"observation": [("observation",)], "state": [("qpos", "qvel")]},
    libraries=("mujoco", "dm-control"),
    # The shoulder turns without limit: raw angles are compared as they are, periodic ones the short way round.
    protocol_arguments={"shoulder": {"raw": {"compat": True}, "periodic": {"compat": False}}},
)
