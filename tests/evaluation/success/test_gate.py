"""The gate of the whole chain, processor, encoder, roll-out, search and environment: it plans, or it does not."""

from pathlib import Path

import torch

from lewm_hf import LeWMImageProcessor, LeWMModel, evaluate

TWO_ROOM = Path(__file__).parents[3] / "model_cards/lewm-tworoom-mini"
CHEAP = {"planner": "goal-time-small", "overrides": {"samples": 64, "iterations": 5, "elites": 8}, "floors": False}
PAIRS = {"env": "two_room", "n": 20, "seeds": [42], "num_envs": 20}


def test_the_shipped_checkpoint_reaches_goals_and_a_random_encoder_does_not():
    trained = evaluate(TWO_ROOM, **PAIRS, **CHEAP)
    assert trained.result.pairs == "shipped" and trained.result.success.n == 20
    assert trained.result.success.rate >= 0.8
    torch.manual_seed(0)
    blind = LeWMModel.from_pretrained(TWO_ROOM)
    fresh = LeWMModel(blind.config)
    blind.encoder, blind.projector = fresh.encoder, fresh.projector
    processor = LeWMImageProcessor.from_pretrained(TWO_ROOM)
    lost = evaluate(blind.eval(), processor=processor, **PAIRS | {"n": 10}, **CHEAP)
    assert lost.result.success.rate <= 0.3
