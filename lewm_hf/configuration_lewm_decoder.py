"""Configuration of the decoder that makes LeWM's embeddings visible."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_checks import check_extent, check_sizes
from .plain_numbers import plain_fields


@plain_fields
@strict
class LeWMDecoderConfig(PreTrainedConfig):
    """What the decoder and the world model that it belongs to must agree on, and the decoder's own sizes.

    The paper gives the form (cross-attention from patch queries to one projected embedding) and no sizes. Its queries
    attend to a single token, which all of them read alike; several tokens give them something to choose from.

    Args:
        embed_dim: size of one embedding, `LeWMConfig.embed_dim`.
        image_size: side of the decoded picture in pixels.
        patch_size: side of the square that one query paints.
        num_channels: of a picture, RGB.
        hidden_size, layers, heads, mlp_size: the transformer of the queries.
        latent_tokens: tokens that an embedding is unfolded into (linearly), to be attended to; 1 is the paper's form.
        initializer_range: standard deviation of fresh weights.
        world_model_fingerprint: SHA-256 of the weights whose embeddings it was trained on, optional heads apart.
    """

    model_type = "lewm_decoder"
    attribute_map = {"num_hidden_layers": "layers", "num_attention_heads": "heads", "intermediate_size": "mlp_size"}

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
        """Patches that make up a picture, each drawn by one query."""
        return (self.image_size // self.patch_size) ** 2

    def validate_sizes(self) -> None:
        """Refuses sizes below 1, that do not divide each other, or that no machine could hold.

        Raises:
            ValueError: one line that names the value.
        """
        check_sizes(
            self,
            (
                "embed_dim", "image_size", "num_channels", "patch_size", "hidden_size", "layers", "heads", "mlp_size",
                "latent_tokens",
            ),
        )  # fmt: skip
        for whole, part in (("image_size", "patch_size"), ("hidden_size", "heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole}={getattr(self, whole)} is not a multiple of {part}={getattr(self, part)}: change one of "
                    "them"
                )
        per_layer = self.hidden_size * (4 * self.hidden_size + 2 * self.mlp_size)
        outside = self.embed_dim * self.latent_tokens + self.num_patches + self.num_channels * self.patch_size**2
        check_extent(self.layers, self.layers * per_layer + self.hidden_size * outside, self.image_size)
