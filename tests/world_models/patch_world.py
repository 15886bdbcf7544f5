"""A world model of somebody else's package: patches as latents, nothing of LeWM but the contract."""

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel


class PatchWorldConfig(PreTrainedConfig):
    model_type = "patch_world"

    image_size: int = 28
    patch_size: int = 14
    width: int = 6
    history_size: int = 2
    frameskip: int = 5
    action_dim: int = 2
    action_mean: list[float] | None = None
    action_std: list[float] | None = None

    @property
    def action_block_size(self):
        return self.frameskip * self.action_dim


class PatchWorldModel(PreTrainedModel):
    """Latents `(patches, width)`; each patch moves by a linear map of itself, its past and the action."""

    config_class = PatchWorldConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.patches = torch.nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        self.motion = torch.nn.Linear(2 * config.width + config.action_block_size, config.width)
        self.post_init()

    def encode(self, pixel_values):
        latents = self.patches(pixel_values.flatten(0, 1)).flatten(2).transpose(1, 2)
        return latents.unflatten(0, pixel_values.shape[:2])

    def step(self, before, now, block):
        block = block[..., None, :].expand(*now.shape[:-1], -1)
        return now + torch.tanh(self.motion(torch.cat([before, now, block], -1)))

    def rollout(self, context, candidates, executed=None):
        if (0 if executed is None else executed.shape[1]) != context.shape[1] - 1:
            raise ValueError("executed blocks are missing")
        now = context[:, -1, None].expand(-1, candidates.shape[1], *context.shape[2:])
        before = context[:, -2, None].expand_as(now) if context.shape[1] > 1 else torch.zeros_like(now)
        imagined = []
        for block in candidates.unbind(2):
            before, now = now, self.step(before, now, block)
            imagined.append(now)
        return torch.stack(imagined, 2)

    def losses(self, batch, step_inputs):
        latents = self.encode(batch["pixel_values"])
        before = torch.cat([torch.zeros_like(latents[:, :1]), latents[:, :-2]], 1)
        predicted = self.step(before, latents[:, :-1], batch["actions"][:, : latents.shape[1] - 1])
        prediction_loss = F.mse_loss(predicted, latents[:, 1:])
        spread = (1 - latents.flatten(0, 2).std(0)).square().mean()
        return {"loss": prediction_loss + spread, "prediction_loss": prediction_loss, "embeddings": latents}

    def step_inputs(self, seed, number):
        return {}


AutoConfig.register("patch_world", PatchWorldConfig, exist_ok=True)
AutoModel.register(PatchWorldConfig, PatchWorldModel, exist_ok=True)
