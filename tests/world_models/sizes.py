"""Sizes at which every world model is small enough for a test."""

SIZES = {"image_size": 28, "action_mean": [0.1, -0.2], "action_std": [0.5, 0.6]}
LEWM = SIZES | {
    "encoder_hidden_size": 24, "encoder_layers": 1, "encoder_mlp_size": 48, "embed_dim": 12, "predictor_layers": 1,
    "projector_hidden_size": 32, "predictor_hidden_size": 24, "predictor_heads": 2, "predictor_head_dim": 8,
    "predictor_mlp_size": 32, "action_mlp_size": 48,
}  # fmt: skip
