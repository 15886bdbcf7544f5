"""`check_world_model` accepts what keeps the contract and names, in one line, what each broken model breaks."""

import pytest
import torch
from torch import nn

from lewm_hf.testing import ContractError, check_world_model

from .patch_world import PatchWorldConfig, PatchWorldModel


def test_lewm_and_a_foreign_model_of_patches_keep_the_contract(tiny_model):
    check_world_model(tiny_model)
    check_world_model(tiny_model.train())
    assert tiny_model.training and tiny_model.projector.training  # the mode it came in
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    check_world_model(PatchWorldModel(PatchWorldConfig()))


def test_the_check_leaves_weights_and_random_numbers_alone(tiny_model):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check_world_model(tiny_model)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())


class Flat(PatchWorldModel):
    def encode(self, pixel_values):
        return super().encode(pixel_values).flatten(0, 1)


class Noisy(PatchWorldModel):
    def encode(self, pixel_values):
        return nn.functional.dropout(super().encode(pixel_values), 0.5)


class Mixing(PatchWorldModel):
    def encode(self, pixel_values):
        latents = super().encode(pixel_values)
        return latents - latents.mean(0)


class Video(PatchWorldModel):
    def encode(self, pixel_values):
        return super().encode(pixel_values).cumsum(1)


class Foreseeing(PatchWorldModel):
    def rollout(self, context, candidates, executed=None):
        return super().rollout(context, candidates, executed) + candidates.mean((2, 3))[:, :, None, None, None]


class OneFrame(PatchWorldModel):
    def rollout(self, context, candidates, executed=None):
        assert context.shape[1] == 1, "only one frame"
        return super().rollout(context, candidates, executed)


class Forgetful(PatchWorldModel):
    """Sees its past in the context, but not in what it imagined."""

    def rollout(self, context, candidates, executed=None):
        imagined = super().rollout(context, candidates, executed)
        now = imagined[:, :, 0]
        later = []
        for block in candidates.unbind(2)[1:]:
            now = self.step(torch.zeros_like(now), now, block)
            later.append(now)
        return torch.stack([imagined[:, :, 0], *later], 2)


class Late(PatchWorldModel):
    def rollout(self, context, candidates, executed=None):
        return super().rollout(context, candidates, executed)[:, :, :-1]


class Overwriting(PatchWorldModel):
    def rollout(self, context, candidates, executed=None):
        imagined = super().rollout(context, candidates, executed)
        candidates.clamp_(-1, 1)
        return imagined


class Detached(PatchWorldModel):
    def losses(self, batch, step_inputs):
        return {name: value.detach() for name, value in super().losses(batch, step_inputs).items()}


class Idle(PatchWorldModel):
    def __init__(self, config):
        super().__init__(config)
        self.unused = nn.Linear(2, 2)
        self.post_init()


class Vector(PatchWorldModel):
    def losses(self, batch, step_inputs):
        found = super().losses(batch, step_inputs)
        return found | {"loss": found["loss"][None]}


class Nameless(PatchWorldModel):
    def losses(self, batch, step_inputs):
        return {"total": super().losses(batch, step_inputs)["loss"]}


class Drawing(PatchWorldModel):
    def step_inputs(self, seed, number):
        return {"directions": torch.rand(3)}


class Losing(PatchWorldModel):
    """Keeps something in a plain attribute that no checkpoint holds."""

    def __init__(self, config):
        super().__init__(config)
        self.scale = 1.0

    def encode(self, pixel_values):
        return self.scale * super().encode(pixel_values)


class Wordless:
    def encode(self, pixel_values):
        return pixel_values


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (Flat, r"encode made \(9, 4, 6\) of \(3, 3, 3, 28, 28\): expected \(3, 3, \*latent\)"),
        (Noisy, "encode differs between two calls in evaluation mode"),
        (Mixing, "encode depends on the other rows of the batch"),
        (Video, "encode of one frame depends on the frames before it"),
        (Foreseeing, "the first step depends on later blocks"),
        (OneFrame, "rollout from 2 context frames raised AssertionError: only one frame"),
        (Forgetful, "differs from imagining one block after the other"),
        (Late, r"rollout from 1 context frame has shape \(3, 4, 4, 4, 6\): expected .* \(3, 4, 5, 4, 6\)"),
        (Overwriting, "changes its arguments in place"),
        (Detached, r"losses\['loss'\] has no gradient"),
        (Idle, "does not reach 2 trainable parameters such as unused.weight"),
        (Vector, r"losses\['loss'\] has shape \(1,\)"),
        (Nameless, r"losses returns \['total'\]: 'loss' is missing"),
        (Drawing, "step_inputs differs between two calls"),
    ],
)
def test_every_broken_promise_is_one_line(broken, line):
    torch.manual_seed(0)
    with pytest.raises(ContractError, match=line) as caught:
        check_world_model(broken(PatchWorldConfig()))
    assert all("\n" not in failure for failure in caught.value.failures)


def test_what_a_checkpoint_does_not_hold_is_found():
    model = Losing(PatchWorldConfig())
    model.scale = 2.0
    with pytest.raises(ContractError, match="encode differs after saving and loading with Losing"):
        check_world_model(model)


def test_members_come_first():
    with pytest.raises(ContractError, match="Wordless has no method rollout") as caught:
        check_world_model(Wordless())
    assert any("has no config" in failure for failure in caught.value.failures)
    model = PatchWorldModel(PatchWorldConfig())
    model.config.action_mean, model.config.frameskip = [0.0], 0
    with pytest.raises(ContractError) as caught:
        check_world_model(model)
    assert "config.frameskip=0 must be at least 1" in caught.value.failures
    assert "config.action_mean has 1 entries, one for each of action_dim=2 is needed" in caught.value.failures
