"""PushT as a task."""

from ..task import PublishedProbe, Recording, Task

TASK = Task(
    name="push_t",
    env_id="lewm/PushT-v0",
    entry_point="lewm_hf.tasks.push_t.env:PushTEnv",
    max_episode_steps=300,
    extra="pusht",
    policies={
        "expert": "lewm_hf.tasks.push_t.expert:PushTExpert",
        "weak": "lewm_hf.tasks.push_t.expert:PushTWeakPolicy",
    },
    recording=Recording(
        stop_at_success=True,
        image_format="webp1",
        episodes_per_file=100,
        noise="noise",
        fork=True,
        paper={"episodes": 20_000},
    ),
    columns={"observation": [("state",)], "state": [("state",)]},
    libraries=("pymunk", "opencv-python-headless"),
    # The paper's table 3.
    published_probes={
        "agent position": (
            PublishedProbe("DINO-WM", (1.888, 0.500, 0.977), (0.003, 0.022, 0.999)),
            PublishedProbe("PLDM", (0.090, 0.311, 0.955), (0.014, 0.119, 0.993)),
            PublishedProbe("LeWM", (0.052, 0.149, 0.974), (0.004, 0.056, 0.998)),
        ),
        "block position": (
            PublishedProbe("DINO-WM", (0.006, 0.007, 0.997), (0.002, 0.003, 0.999)),
            PublishedProbe("PLDM", (0.122, 0.341, 0.938), (0.011, 0.066, 0.994)),
            PublishedProbe("LeWM", (0.029, 0.073, 0.986), (0.001, 0.006, 0.999)),
        ),
        "block angle": (
            PublishedProbe("DINO-WM", (0.050, 0.101, 0.979), (0.009, 0.052, 0.995)),
            PublishedProbe("PLDM", (0.446, 0.625, 0.745), (0.056, 0.184, 0.972)),
            PublishedProbe("LeWM", (0.187, 0.359, 0.902), (0.021, 0.139, 0.990)),
        ),
    },
)
