"""TwoRoom as a task."""

from ..task import PublishedProbe, Recording, Task

TASK = Task(
    name="two_room",
    env_id="lewm/TwoRoom-v0",
    entry_point="lewm_hf.tasks.two_room.env:TwoRoomEnv",
    max_episode_steps=100,
    extra="tworoom",
    policies={"expert": "lewm_hf.tasks.two_room.expert:TwoRoomExpert"},
    recording=Recording(
        stop_at_success=True,
        image_format="png",
        episodes_per_file=100,
        noise="noise_std",
        fork=True,
        paper={"episodes": 10_000},
    ),
    columns={
        "observation": [("pos_agent",), ("proprio",)],
        "state": [("pos_agent",), ("proprio",)],
        "goal": [("pos_target",)],
    },
    # The paper's table 1.
    published_probes={
        "agent position": (
            PublishedProbe("DINO-WM", (0.488, 0.451, 0.824), (0.000, None, 0.999)),
            PublishedProbe("PLDM", (0.008, 0.041, 0.996), (0.000, None, 1.000)),
            PublishedProbe("LeWM", (0.008, 0.018, 0.996), (0.000, None, 1.000)),
        ),
    },
)
