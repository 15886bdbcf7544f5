"""Probe results of the paper (arXiv 2603.19312, tables 1, 3 and 4), to stand beside measured ones."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row: probes of single frames, MSE of standardized values. The split and the probes' settings are not stated.

    Args:
        linear, mlp: MSE, its standard deviation over frames, Pearson r; `None` where the paper prints none.
    """

    model: str
    linear: tuple[float, float | None, float]
    mlp: tuple[float, float | None, float]


def _rows(*values: tuple) -> tuple[Published, ...]:
    return tuple(
        Published(model, row[:3], row[3:]) for model, row in zip(("DINO-WM", "PLDM", "LeWM"), values, strict=True)
    )


# The paper's "Overall" row of Cube is left out: how it averages is not stated.
PAPER_PROBES: Mapping[str, Mapping[str, tuple[Published, ...]]] = {
    "two_room": {
        "agent position": _rows(
            (0.488, 0.451, 0.824, 0.000, None, 0.999),
            (0.008, 0.041, 0.996, 0.000, None, 1.000),
            (0.008, 0.018, 0.996, 0.000, None, 1.000),
        ),
    },
    "push_t": {
        "agent position": _rows(
            (1.888, 0.500, 0.977, 0.003, 0.022, 0.999),
            (0.090, 0.311, 0.955, 0.014, 0.119, 0.993),
            (0.052, 0.149, 0.974, 0.004, 0.056, 0.998),
        ),
        "block position": _rows(
            (0.006, 0.007, 0.997, 0.002, 0.003, 0.999),
            (0.122, 0.341, 0.938, 0.011, 0.066, 0.994),
            (0.029, 0.073, 0.986, 0.001, 0.006, 0.999),
        ),
        "block angle": _rows(
            (0.050, 0.101, 0.979, 0.009, 0.052, 0.995),
            (0.446, 0.625, 0.745, 0.056, 0.184, 0.972),
            (0.187, 0.359, 0.902, 0.021, 0.139, 0.990),
        ),
    },
    "reacher": {},
    "cube": {
        "joint position": _rows(
            (0.960, 1.150, 0.808, 0.200, 0.967, 0.870),
            (0.372, 1.172, 0.695, 0.340, 1.164, 0.728),
            (0.352, 1.173, 0.706, 0.330, 1.157, 0.742),
        ),
        "joint velocity": _rows(
            (0.792, 0.748, 0.763, 0.263, 0.683, 0.852),
            (1.016, 0.905, 0.115, 0.661, 0.830, 0.536),
            (1.021, 0.902, 0.095, 0.818, 0.899, 0.386),
        ),
        "effector position": _rows(
            (0.024, 0.010, 0.996, 0.004, 0.003, 0.999),
            (0.052, 0.073, 0.974, 0.013, 0.029, 0.993),
            (0.018, 0.025, 0.991, 0.003, 0.004, 0.998),
        ),
        "effector yaw": _rows(
            (3.317, 1.016, 0.828, 0.167, 0.168, 0.917),
            (0.996, 0.165, 0.056, 0.985, 0.207, 0.117),
            (0.980, 0.295, 0.124, 0.952, 0.369, 0.213),
        ),
        "gripper opening": _rows(
            (0.114, 0.095, 0.943, 0.038, 0.060, 0.982),
            (0.234, 0.169, 0.876, 0.066, 0.111, 0.967),
            (0.121, 0.111, 0.938, 0.048, 0.079, 0.976),
        ),
        "block position": _rows(
            (0.085, 0.029, 0.991, 0.007, 0.007, 0.998),
            (0.031, 0.023, 0.985, 0.003, 0.004, 0.999),
            (0.007, 0.010, 0.997, 0.002, 0.003, 0.999),
        ),
        "block quaternion": _rows(
            (1.596, 10.457, 0.257, 0.769, 8.046, 0.411),
            (1.021, 12.600, 0.066, 0.989, 12.140, 0.218),
            (1.019, 12.596, 0.087, 0.963, 11.450, 0.224),
        ),
        "block yaw": _rows(
            (4.223, 2.530, 0.176, 0.916, 0.278, 0.304),
            (0.996, 0.088, 0.061, 0.989, 0.140, 0.106),
            (0.996, 0.094, 0.062, 0.973, 0.199, 0.164),
        ),
    },
}
