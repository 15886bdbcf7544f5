"""Cube as a task."""

from ..task import PublishedProbe, Recording, Task

TASK = Task(
    name="cube",
    env_id="lewm/Cube-v0",
    entry_point="lewm_hf.tasks.cube.env:CubeEnv",
    max_episode_steps=200,
    extra="cube",
    policies={"expert": "lewm_hf.tasks.cube.expert:CubeExpert"},
    recording=Recording(
        stop_at_success=False,
        image_format="webp0",
        episodes_per_file=25,
        noise="noise",
        paper={"episodes": 10_000},
    ),
    columns={"observation": [("observation",)], "state": [("qpos", "qvel")]},
    libraries=("mujoco", "dm-control", "ogbench"),
    # The paper's table 4. Its "Overall" row is left out: how it averages is not stated.
    published_probes={
        "joint position": (
            PublishedProbe("DINO-WM", (0.960, 1.150, 0.808), (0.200, 0.967, 0.870)),
            PublishedProbe("PLDM", (0.372, 1.172, 0.695), (0.340, 1.164, 0.728)),
            PublishedProbe("LeWM", (0.352, 1.173, 0.706), (0.330, 1.157, 0.742)),
        ),
        "joint velocity": (
            PublishedProbe("DINO-WM", (0.792, 0.748, 0.763), (0.263, 0.683, 0.852)),
            PublishedProbe("PLDM", (1.016, 0.905, 0.115), (0.661, 0.830, 0.536)),
            PublishedProbe("LeWM", (1.021, 0.902, 0.095), (0.818, 0.899, 0.386)),
        ),
        "effector position": (
            PublishedProbe("DINO-WM", (0.024, 0.010, 0.996), (0.004, 0.003, 0.999)),
            PublishedProbe("PLDM", (0.052, 0.073, 0.974), (0.013, 0.029, 0.993)),
            PublishedProbe("LeWM", (0.018, 0.025, 0.991), (0.003, 0.004, 0.998)),
        ),
        "effector yaw": (
            PublishedProbe("DINO-WM", (3.317, 1.016, 0.828), (0.167, 0.168, 0.917)),
            PublishedProbe("PLDM", (0.996, 0.165, 0.056), (0.985, 0.207, 0.117)),
            PublishedProbe("LeWM", (0.980, 0.295, 0.124), (0.952, 0.369, 0.213)),
        ),
        "gripper opening": (
            PublishedProbe("DINO-WM", (0.114, 0.095, 0.943), (0.038, 0.060, 0.982)),
            PublishedProbe("PLDM", (0.234, 0.169, 0.876), (0.066, 0.111, 0.967)),
            PublishedProbe("LeWM", (0.121, 0.111, 0.938), (0.048, 0.079, 0.976)),
        ),
        "block position": (
            PublishedProbe("DINO-WM", (0.085, 0.029, 0.991), (0.007, 0.007, 0.998)),
            PublishedProbe("PLDM", (0.031, 0.023, 0.985), (0.003, 0.004, 0.999)),
            PublishedProbe("LeWM", (0.007, 0.010, 0.997), (0.002, 0.003, 0.999)),
        ),
        "block quaternion": (
            PublishedProbe("DINO-WM", (1.596, 10.457, 0.257), (0.769, 8.046, 0.411)),
            PublishedProbe("PLDM", (1.021, 12.600, 0.066), (0.989, 12.140, 0.218)),
            PublishedProbe("LeWM", (1.019, 12.596, 0.087), (0.963, 11.450, 0.224)),
        ),
        "block yaw": (
            PublishedProbe("DINO-WM", (4.223, 2.530, 0.176), (0.916, 0.278, 0.304)),
            PublishedProbe("PLDM", (0.996, 0.088, 0.061), (0.989, 0.140, 0.106)),
            PublishedProbe("LeWM", (0.996, 0.094, 0.062), (0.973, 0.199, 0.164)),
        ),
    },
)
