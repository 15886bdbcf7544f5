"""Configuration of the decoder that makes LeWM's embeddings visible."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class LeWMDecoderConfig(PreTrainedConfig):
    """What the decoder and the world model that it belongs to must agree on, and the decoder's own sizes.

    The paper gives the form (cross-attention from patch queries to one projected embedding) and no sizes. Its queries
    attend to a single token, which all of them read alike; several tokens give them something to choose from.

    Args:
        embed_dim: size of one embedding, `LeWMConfig.embed_dim`.
        image_size: side of the decoded picture in pixels.
        patch_size: side of the square that one query paints.
        hidden_size, layers, heads, mlp_size: the transformer of the queries.
        latent_tokens: tokens that an embedding is unfolded into (linearly), to be attended to; 1 is the paper's form.
        world_model_fingerprint: SHA-256 of the weights whose embeddings the decoder was trained on.
    """

    model_type = "lewm_decoder"

    embed_dim: int = 192
    image_size: int = 224
    num_channels: int = 3
    patch_size: int = 16
    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    mlp_size: int = 1024
    latent_tokens: int = 8
    initializer_range: float = 0.02
    world_model_fingerprint: str | None = None

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    def validate_sizes(self):
        for name in (
            "embed_dim", "image_size", "num_channels", "patch_size", "hidden_size", "layers", "heads", "mlp_size",
            "latent_tokens",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for whole, part in (("image_size", "patch_size"), ("hidden_size", "heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole}={getattr(self, whole)} is no multiple of {part}={getattr(self, part)}: change one of them"
                )
