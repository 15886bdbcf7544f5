import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf import LeWMConfig
from lewm_hf.action_blocks import from_blocks, to_blocks


@settings(max_examples=50, deadline=None)
@given(
    frameskip=st.integers(1, 5), action_dim=st.integers(1, 5), time=st.integers(1, 4), seed=st.integers(0, 2**32 - 1)
)
def test_blocks_equal_a_loop_and_come_back(frameskip, action_dim, time, seed):
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=action_dim), rng.uniform(0.1, 3, size=action_dim)
    config = LeWMConfig(frameskip=frameskip, action_dim=action_dim, action_mean=mean.tolist(), action_std=std.tolist())
    actions = rng.normal(size=(2, time * frameskip, action_dim))
    blocks = to_blocks(torch.tensor(actions), config)
    for batch in range(2):
        for k in range(time):
            raw = actions[batch, k * frameskip : (k + 1) * frameskip]
            np.testing.assert_allclose(blocks[batch, k], np.concatenate([(a - mean) / std for a in raw]), rtol=1e-12)
    np.testing.assert_allclose(from_blocks(blocks, config), actions, rtol=1e-9, atol=1e-12)


def test_missing_statistics_and_wrong_widths_are_refused():
    with pytest.raises(ValueError, match="no action statistics"):
        to_blocks(torch.zeros(5, 2), LeWMConfig())
    config = LeWMConfig(action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
    with pytest.raises(ValueError, match="3 dimensions"):
        to_blocks(torch.zeros(5, 3), config)
    with pytest.raises(ValueError, match="whole blocks"):
        to_blocks(torch.zeros(6, 2), config)
    with pytest.raises(ValueError, match="8 wide"):
        from_blocks(torch.zeros(5, 8), config)


def test_a_dimension_that_never_moved_is_shifted_and_not_scaled(tiny_config):
    from sklearn.preprocessing import StandardScaler

    seen = np.array([[0.5, 0.1], [-0.5, 0.1], [0.25, 0.1], [0.75, 0.1]])
    scaler = StandardScaler().fit(seen)
    tiny_config.action_mean, tiny_config.action_std = seen.mean(0).tolist(), seen.std(0).tolist()
    tiny_config.frameskip = 1
    other = np.array([[0.3, 0.2], [0.1, -5.0]])
    blocks = to_blocks(torch.tensor(other), tiny_config)
    np.testing.assert_allclose(blocks, scaler.transform(other))
    np.testing.assert_allclose(from_blocks(blocks, tiny_config), other)


def test_a_plan_leaves_still_what_never_moved(tiny_model):
    from lewm_hf.planning import CEM, PlanSettings, plan

    tiny_model.config.action_std = [0.5, 0.0]
    found = plan(
        tiny_model,
        torch.randn(2, 1, 16),
        torch.randn(2, 16),
        PlanSettings(solver=CEM(samples=20, iterations=3, elites=4)),
    )
    assert (found["actions"][..., 1] == torch.tensor(-0.2)).all()
    assert found["actions"][..., 0].std() > 0.05


def test_a_dimension_that_never_moves_is_told(caplog):
    from lewm_hf.data.statistics import action_statistics

    assert action_statistics(np.array([[0.0, 3.0], [1.0, 3.0]]))[1] == [0.5, 0.0]
    assert "[1] never change" in caplog.text
