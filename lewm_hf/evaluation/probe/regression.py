"""The two probes: ridge regression and a small MLP. Both standardize inputs and targets on what they are fitted to."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RIDGE_ALPHA = 1e-2
HIDDEN = 256
LEARNING_RATE = 1e-3
BATCH_SIZE = 128
STD_FLOOR = 1e-8
PCA_FRAMES = 1000
WIDEST, SKETCHED = 4096, 1024

Predictor = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Standardizer:
    """Mean 0 and standard deviation 1 (population) on the rows it was made of; constant columns become 0."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Standardizer":
        values = np.asarray(values, dtype=np.float64)
        std = values.std(0)
        return cls(values.mean(0), np.where(std > STD_FLOOR, std, np.inf))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.std


class Sketch:
    """Latents wider than `WIDEST` in `SKETCHED` random directions, which keeps their geometry and fits into memory.

    Gaussian directions, the same in every process: distances change by some percent (Johnson and Lindenstrauss 1984).
    Narrower latents are flattened and otherwise left alone.
    """

    def __init__(self) -> None:
        self.used = False
        self._directions: dict[int, Tensor] = {}

    def __call__(self, latents: Tensor) -> Tensor:
        """`(n, *latent)` -> `(n, latent entries or SKETCHED)`."""
        rows = latents.flatten(1)
        width = rows.shape[1]
        if width <= WIDEST:
            return rows
        if width not in self._directions:
            generator = torch.Generator().manual_seed(width)
            self._directions[width] = torch.randn(width, SKETCHED, generator=generator) / SKETCHED**0.5
        self.used = True
        return rows @ self._directions[width]


def fit_ridge(inputs: np.ndarray, targets: np.ndarray, alpha: float = RIDGE_ALPHA) -> Predictor:
    """Ridge regression on standardized inputs: minimizes |Y - X W|^2 + alpha |W|^2, sums over all rows.

    Args:
        inputs: `(n, d)`; standardized here.
        targets: `(n, k)`, standardized already.

    Returns:
        Raw inputs `(m, d)` -> standardized targets `(m, k)`.
    """
    scale = Standardizer.of(inputs)
    x, offset = scale(inputs), np.asarray(targets, dtype=np.float64).mean(0)
    y = targets - offset
    n, d = x.shape
    # The smaller of the two equivalent systems.
    if d <= n:
        weights = np.linalg.solve(x.T @ x + alpha * np.eye(d), x.T @ y)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + alpha * np.eye(n), y)
    return lambda raw: scale(raw) @ weights + offset


def fit_mlp(
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int,
    steps: int = 1500,
    device: torch.device | str = "cpu",
) -> Predictor:
    """Two hidden layers of 256, GELU, AdamW at 1e-3 on the mean squared error, batches of 128.

    Args:
        inputs: `(n, d)`; standardized here.
        targets: `(n, k)`, standardized already.
        seed: of weights and batches, the same on every device.
        steps: optimizer steps.

    Returns:
        Raw inputs `(m, d)` -> standardized targets `(m, k)`.
    """
    scale = Standardizer.of(inputs)
    x = torch.from_numpy(scale(inputs)).float().to(device)
    y = torch.from_numpy(np.asarray(targets)).float().to(device)
    generator = torch.Generator().manual_seed(seed)
    sizes = (x.shape[1], HIDDEN, HIDDEN, y.shape[1])
    parameters = []
    for size_in, size_out in zip(sizes[:-1], sizes[1:], strict=True):  # torch's default initialization
        bound = size_in**-0.5
        for shape in ((size_out, size_in), (size_out,)):
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            parameters.append(nn.Parameter(values.to(device)))
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    for _ in range(steps):
        index = torch.randint(len(x), (min(BATCH_SIZE, len(x)),), generator=generator).to(device)
        loss = F.mse_loss(_mlp(x[index], parameters), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def predict(raw: np.ndarray) -> np.ndarray:
        return _mlp(torch.from_numpy(scale(raw)).float().to(device), parameters).cpu().double().numpy()

    return predict


def _mlp(hidden: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    *inner, (weight, bias) = zip(parameters[::2], parameters[1::2], strict=True)
    for w, b in inner:
        hidden = F.gelu(F.linear(hidden, w, b))
    return F.linear(hidden, weight, bias)


def pixel_components(frames: np.ndarray, fitted: np.ndarray, count: int) -> np.ndarray:
    """Principal components of pictures, the control that knows pixels and nothing else.

    Args:
        frames: `(n, ...)`, one picture per row.
        fitted: `(m,)` rows that the components are computed from; more than 1,000 are thinned out evenly.
        count: components wanted; fewer where the pictures have fewer.

    Returns:
        `(n, count)` float32.
    """
    pixels = torch.as_tensor(frames).flatten(1).float()
    train = pixels[np.asarray(fitted)[np.linspace(0, len(fitted) - 1, min(len(fitted), PCA_FRAMES)).astype(int)]]
    mean = train.mean(0)
    # Through the inner products of pictures, of which there are fewer than pixels.
    variance, left = torch.linalg.eigh((train - mean).double() @ (train - mean).double().T)
    keep = torch.arange(len(train)).flip(0)[: min(count, int((variance > variance[-1] * 1e-9).sum()))]
    directions = (train - mean).T @ (left[:, keep] / variance[keep].sqrt()).float()
    return ((pixels - mean) @ directions).numpy()
