"""Whether embeddings have collapsed: whether all frames have become one point."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configuration_lewm import LeWMConfig
from ..sigreg import quadrature, sigreg_bounds

COLLAPSED = 0.5
PROJECTIONS, ROWS = 64, 512


@torch.no_grad()
def collapse(embeddings: Tensor) -> float | None:
    """How near `(batch, time, *latent)` are to one point: 0 where they are N(0, I), 1 where all of them coincide.

    SIGReg's statistic over fixed directions, between its two reference values (LeWM, arXiv 2603.19312, section 3).
    Embeddings that are spread wider than N(0, I) are none of this function's business: 0. `None` for batches so small
    that the reference values lie close together.
    """
    points = embeddings[:ROWS].flatten(2).float()
    config = LeWMConfig()
    gaussian, one_point = sigreg_bounds(config, len(points))
    if one_point < 2 * gaussian:
        return None
    if float(points.flatten(0, 1).std(0, correction=0).mean()) >= 1:
        return 0.0
    # Written out: the module's own sums run over all ranks, and one of them evaluates.
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(points.shape[-1], PROJECTIONS, generator=generator), dim=0).to(points.device)
    t, phi, weights = (v.to(points.device) for v in quadrature(config.sigreg_knots, config.sigreg_t_max))
    angles = (points.transpose(0, 1) @ directions).unsqueeze(-1) * t  # (time, batch, projections, knots)
    error = (angles.cos().mean(1) - phi).square() + angles.sin().mean(1).square()
    value = len(points) * float((error @ weights).mean())
    return max(0.0, (value - gaussian) / (one_point - gaussian))


def collapse_warning(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> str | None:
    """A sentence about an evaluation whose embeddings have collapsed, `None` about any other.

    Args:
        record: of metrics.jsonl.
        recipe: values of the run, such as `sigreg_weight` and `batch_size`.
    """
    found = record.get("eval/collapse")
    if found is None or found < COLLAPSED:
        return None
    keys = [f"{key}={recipe[key]}" for key in ("sigreg_weight", "batch_size") if key in recipe]
    remedy = f": raise {' or '.join(keys)}" if keys else ""
    return (
        f"the embeddings of step {record['step']} have collapsed: {found:.0%} of the way from a Gaussian to one point, "
        f"where every prediction is right and means nothing{remedy}"
    )
