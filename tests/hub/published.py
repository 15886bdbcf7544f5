"""The released architecture in plain PyTorch, and checkpoints in the published layout with random weights.

Written from the description of the released model alone; imports nothing of the package. Module names give the
published state-dict keys, the old spelling of the ViT included.
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class Dense(nn.Module):
    def __init__(self, size_in: int, size_out: int):
        super().__init__()
        self.dense = nn.Linear(size_in, size_out)


class VitAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attention, self.output = SelfAttention(width), Dense(width, width)


class VitLayer(nn.Module):
    def __init__(self, width: int, heads: int, mlp: int):
        super().__init__()
        self.heads = heads
        self.attention = VitAttention(width)
        self.intermediate, self.output = Dense(width, mlp), Dense(mlp, width)
        self.layernorm_before, self.layernorm_after = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h, out = self.layernorm_before(x), torch.zeros_like(x)
        q, k, v = (getattr(self.attention.attention, name)(h) for name in ("query", "key", "value"))
        size = x.shape[-1] // self.heads
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
            out[..., part] = scores.softmax(-1) @ v[..., part]
        x = x + self.attention.output.dense(out)
        h = self.intermediate.dense(self.layernorm_after(x))
        return x + self.output.dense(0.5 * h * (1 + torch.erf(h / math.sqrt(2))))


class PatchEmbeddings(nn.Module):
    def __init__(self, width: int, patch: int):
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, stride=patch)


class VitEmbeddings(nn.Module):
    def __init__(self, width: int, patch: int, image: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, width))
        self.patch_embeddings = PatchEmbeddings(width, patch)


class VitLayers(nn.Module):
    def __init__(self, layers: list[VitLayer]):
        super().__init__()
        self.layer = nn.ModuleList(layers)


class Vit(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, patch: int, image: int):
        super().__init__()
        self.embeddings = VitEmbeddings(width, patch, image)
        self.encoder = VitLayers([VitLayer(width, heads, 4 * width) for _ in range(layers)])
        self.layernorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.embeddings.cls_token.repeat(len(x), 1, 1), x], 1) + self.embeddings.position_embeddings
        for layer in self.encoder.layer:
            x = layer(x)
        return self.layernorm(x)[:, 0]


class CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * heads * head_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_dim, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, -1)
        q, k, v = (part.reshape(batch, time, self.heads, self.head_dim) for part in (q, k, v))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(self.head_dim)
        for i in range(time):
            scores[:, :, i, i + 1 :] = -math.inf
        return self.to_out(torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).reshape(batch, time, -1))


class FeedForward(nn.Module):
    def __init__(self, width: int, mlp: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, mlp), nn.GELU(), nn.Dropout(0.1),
            nn.Linear(mlp, width), nn.Dropout(0.1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int, mlp: int):
        super().__init__()
        self.attn, self.mlp = CausalAttention(width, heads, head_dim), FeedForward(width, mlp)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(condition).chunk(6, -1)
        x = x + gate_a * self.attn(self.norm(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm(x) * (1 + scale_m) + shift_m)


class Transformer(nn.Module):
    def __init__(self, layers: list[Block], width: int):
        super().__init__()
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(width)


class Predictor(nn.Module):
    def __init__(self, frames: int, width: int, depth: int, heads: int, head_dim: int, mlp: int):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, frames, width))
        self.transformer = Transformer([Block(width, heads, head_dim, mlp) for _ in range(depth)], width)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        x = z + self.pos_embedding[:, : z.shape[1]]
        for layer in self.transformer.layers:
            x = layer(x, condition)
        return self.transformer.norm(x)


class Embedder(nn.Module):
    def __init__(self, actions: int, width: int):
        super().__init__()
        self.patch_embed = nn.Conv1d(actions, 10, 1)
        self.embed = nn.Sequential(nn.Linear(10, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, actions: Tensor) -> Tensor:
        return self.embed(self.patch_embed(actions.transpose(1, 2)).transpose(1, 2))


class Mlp(nn.Module):
    def __init__(self, size_in: int, hidden: int, size_out: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(size_in, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, size_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class PublishedLeWM(nn.Module):
    """Random weights: open AdaLN gates, uneven BatchNorm statistics."""

    def __init__(
        self,
        history: int = 3,
        actions: int = 10,
        *,
        image: int = 224,
        width: int = 192,
        layers: int = 12,
        vit_heads: int = 3,
        depth: int = 6,
        heads: int = 16,
        head_dim: int = 64,
        mlp: int = 2048,
        hidden: int = 2048,
    ):
        super().__init__()
        self.history = history
        self.encoder = Vit(width, layers, vit_heads, 14, image)
        self.predictor = Predictor(history, width, depth, heads, head_dim, mlp)
        self.action_encoder = Embedder(actions, width)
        self.projector, self.pred_proj = Mlp(width, hidden, width), Mlp(width, hidden, width)
        with torch.no_grad():
            for projector in (self.projector, self.pred_proj):
                projector.net[1].running_mean.normal_(std=0.5)
                projector.net[1].running_var.uniform_(0.5, 2.0)
                projector.net[1].num_batches_tracked.fill_(1234)
        self.eval()

    def encode(self, pixels: Tensor) -> Tensor:
        return self.projector(self.encoder(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]))

    def predict(self, z: Tensor, actions: Tensor) -> Tensor:
        return self.pred_proj(self.predictor(z, self.action_encoder(actions)))

    def rollout(self, z: Tensor, plan: Tensor) -> Tensor:
        """One context frame `(B, 1, D)` and a plan `(B, T, A)` each -> `(B, T, D)`."""
        frames = [z[:, 0]]
        for step in range(plan.shape[1]):
            first = max(0, step + 1 - self.history)
            window = torch.stack(frames[first:], 1)
            frames.append(self.predict(window, plan[:, first : step + 1])[:, -1])
        return torch.stack(frames[1:], 1)

    def goal_cost(self, z: Tensor, plan: Tensor, goal: Tensor) -> Tensor:
        return ((self.rollout(z, plan)[:, -1] - goal) ** 2).sum(-1)


def original_config(
    history: int = 3,
    actions: int = 10,
    *,
    image: int = 224,
    depth: int = 6,
    heads: int = 16,
    head_dim: int = 64,
    mlp: int = 2048,
    hidden: int = 2048,
) -> dict:
    """The published `config.json` of such a model; the encoder is always the tiny one."""
    projector = {
        "_target_": "stable_worldmodel.wm.lewm.module.MLP",
        "input_dim": 192,
        "output_dim": 192,
        "hidden_dim": hidden,
        "norm_fn": {"_target_": "torch.nn.BatchNorm1d", "_partial_": True},
    }
    return {
        "_target_": "stable_worldmodel.wm.lewm.LeWM",
        "encoder": {
            "_target_": "stable_pretraining.backbone.utils.vit_hf",
            "size": "tiny",
            "patch_size": 14,
            "image_size": image,
            "pretrained": False,
            "use_mask_token": False,
        },
        "predictor": {
            "_target_": "stable_worldmodel.wm.lewm.module.Predictor",
            "num_frames": history,
            "input_dim": 192,
            "hidden_dim": 192,
            "output_dim": 192,
            "depth": depth,
            "heads": heads,
            "mlp_dim": mlp,
            "dim_head": head_dim,
            "dropout": 0.1,
            "emb_dropout": 0.0,
        },
        "action_encoder": {
            "_target_": "stable_worldmodel.wm.lewm.module.Embedder",
            "input_dim": actions,
            "emb_dim": 192,
        },
        "projector": dict(projector),
        "pred_proj": dict(projector),
    }


def new_spelling(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the ViT names of transformers 5.9 and later."""
    renamed = {}
    for key, tensor in state.items():
        if key.startswith("encoder."):
            for old, new in (
                ("encoder.encoder.layer.", "encoder.layers."),
                ("attention.attention.query", "attention.q_proj"),
                ("attention.attention.key", "attention.k_proj"),
                ("attention.attention.value", "attention.v_proj"),
                ("attention.output.dense", "attention.o_proj"),
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ):
                key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


def write_checkpoint(folder: Path, model: PublishedLeWM, config: dict, weights: str = "weights.pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / weights)
    (folder / "config.json").write_text(json.dumps(config, indent=4) + "\n")
    return folder
