"""The four published checkpoints: where they are, what their files hash to, and the config that they all share."""

from dataclasses import dataclass
from typing import Any

WEIGHTS_FILE = "weights.pt"
CONFIG_FILE = "config.json"
# Their configs give the width of an action block alone; frameskip is part of the published training recipe.
FRAMESKIP = 5


@dataclass(frozen=True)
class Release:
    """One published checkpoint, pinned.

    Args:
        repo_id: model repository; the data set it was trained on has the same id.
        env: short name of its environment.
        revision: commit whose files the hashes belong to.
        weights_sha256, config_sha256: of `weights.pt` and `config.json`.
        action_dim: size of one raw action.
    """

    repo_id: str
    env: str
    revision: str
    weights_sha256: str
    config_sha256: str
    action_dim: int

    @property
    def env_id(self) -> str:
        """Gymnasium id of its environment; the tasks' ids are their names in capitals."""
        return f"lewm/{self.env.title().replace('_', '')}-v0"


_CONFIG_2D = "2564086e961e7b5c7c04dffc451091115b389a590645ff19653c64fd0bc16e09"
_CONFIG_CUBE = "4d446944fe28922cc2c5763f43d4ef9132a457bd89e9a0ce5dbceac183994999"

RELEASES = (
    Release(
        "quentinll/lewm-pusht",
        "push_t",
        "22b330c28c27ead4bfd1888615af1340e3fe9052",
        "48938400ae3464c9680731287f583a9cb516f55a8ec64ea13a91be47fb15b607",
        _CONFIG_2D,
        2,
    ),
    Release(
        "quentinll/lewm-cube",
        "cube",
        "b0747c5002e86d2ce8f3cd8178004b97524c587d",
        "2839a907362f403f9136383016e91774373a295d958ae75121791f22a9fddf89",
        _CONFIG_CUBE,
        5,
    ),
    Release(
        "quentinll/lewm-tworooms",
        "two_room",
        "77adaae0bc31deab21c93740d1f8bb947cd0bdec",
        "566f223624ea4bfb39dbfe6ae731198dd6ea73b7b8919fed6b1ecafca810f7dd",
        _CONFIG_2D,
        2,
    ),
    Release(
        "quentinll/lewm-reacher",
        "reacher",
        "62adae4b71dc474ddf8f794c476ebfe737a743ca",
        "eb70b1fd5409f8f81875d62f5ee5a20dd220a3128a477de66b5760f475f0f469",
        _CONFIG_2D,
        2,
    ),
)


def find_release(*, repo_id: str | None = None, weights_sha256: str | None = None) -> Release | None:
    """The release with this repository or these weights, `None` if there is none."""
    for release in RELEASES:
        if repo_id == release.repo_id or weights_sha256 == release.weights_sha256:
            return release
    return None


def released_config(action_dim: int) -> dict[str, Any]:
    """The published config; with four spaces of indentation and a final newline it is the published file."""
    package = "stable_worldmodel.wm.lewm"
    mlp = {
        "_target_": f"{package}.module.MLP",
        "input_dim": 192,
        "output_dim": 192,
        "hidden_dim": 2048,
        "norm_fn": {"_target_": "torch.nn.BatchNorm1d", "_partial_": True},
    }
    return {
        "_target_": f"{package}.LeWM",
        "encoder": {
            "_target_": "stable_pretraining.backbone.utils.vit_hf",
            "size": "tiny",
            "patch_size": 14,
            "image_size": 224,
            "pretrained": False,
            "use_mask_token": False,
        },
        "predictor": {
            "_target_": f"{package}.module.Predictor",
            "num_frames": 3,
            "input_dim": 192,
            "hidden_dim": 192,
            "output_dim": 192,
            "depth": 6,
            "heads": 16,
            "mlp_dim": 2048,
            "dim_head": 64,
            "dropout": 0.1,
            "emb_dropout": 0.0,
        },
        "action_encoder": {
            "_target_": f"{package}.module.Embedder",
            "input_dim": FRAMESKIP * action_dim,
            "emb_dim": 192,
        },
        "projector": mlp,
        "pred_proj": mlp,
    }
