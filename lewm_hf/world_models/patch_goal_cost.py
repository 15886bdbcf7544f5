"""The goal cost of DINO-WM: patch features and, with a weight, proprioception."""

from torch import Tensor

from .dino_wm import DinoWMConfig


class PatchGoalCost:
    """Goal distance in patch features and, with a weight, in proprioception; a `PlanSettings(cost=...)`.

    Args:
        config: of the model that plans.
        proprioception_weight: alpha of the paper: 1 in PushT and Wall, 0 in the maze.

    Raises:
        ValueError: for a negative weight, or one for proprioception that the model does not have.
    """

    def __init__(self, config: DinoWMConfig, proprioception_weight: float = 0.0):
        if not 0 <= proprioception_weight < float("inf"):
            raise ValueError(f"proprioception_weight={proprioception_weight} must be a finite number of at least 0")
        if proprioception_weight and not config.proprioception_size:
            raise ValueError(
                f"proprioception_weight={proprioception_weight}, but the model knows no proprioception: leave it at 0, "
                "or train with proprioception_size on data that recorded some"
            )
        self.feature_size, self.weight = config.feature_size, proprioception_weight

    def __call__(self, predicted: Tensor, goal: Tensor) -> Tensor:
        """`(B, S, T, P, W)` and `(B, P, W)` -> costs `(B, S)`: mean squared errors of the last step."""
        error = (predicted[:, :, -1].float() - goal[:, None].float()).square()
        cost = error[..., : self.feature_size].mean((-2, -1))
        if self.weight:
            cost = cost + self.weight * error[..., self.feature_size :].mean((-2, -1))
        return cost
