"""Every analysis that divides its work, on tiny models; a script for torchrun. Usage: CHECKPOINT FOLDER"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from evaluation.conftest import make_episodes
from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.configuration_lewm_decoder import LeWMDecoderConfig
from lewm_hf.evaluation.common.ranks import ALONE, Ranks, launched_ranks
from lewm_hf.evaluation.decode.run import decode
from lewm_hf.evaluation.health.run import health
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.evaluation.surprise.run import surprise
from lewm_hf.modeling_lewm_decoder import LeWMDecoder

DECODER = {"embed_dim": 16, "image_size": 28, "patch_size": 7, "hidden_size": 24, "layers": 1, "heads": 3}


@contextmanager
def frames_counted(model: LeWMModel):
    """A list whose sum is the number of pictures that pass through the encoder."""
    counts: list[int] = []
    handle = model.encoder.register_forward_hook(lambda module, inputs, output: counts.append(len(inputs[0])))
    yield counts
    handle.remove()


def analyze(checkpoint: Path, folder: Path, ranks: Ranks = ALONE) -> dict[str, int]:
    """Writes the results of all of them below a folder; returns how many pictures this process encoded for each.

    Sizes are such that work divides neither by two nor by three, and a third process finds none to do once.
    """
    torch.manual_seed(0)
    decoder = LeWMDecoder(LeWMDecoderConfig(**DECODER, mlp_size=32, latent_tokens=5)).eval()
    model, episodes = LeWMModel.from_pretrained(checkpoint).eval(), make_episodes(60)
    shared = {"processor": LeWMImageProcessor(image_size=28), "device": "cpu", "ranks": ranks}
    asked = {
        "probe": lambda out: probe(model, episodes, frames=150, seeds=(0, 1), mlp_steps=3, out=out, **shared),
        "health": lambda out: health(model, episodes, frames=200, stretches=70, horizon=2, out=out, **shared),
        "surprise": lambda out: surprise(model, env="two_room", trajectories=2, steps=60, out=out, **shared),
        "decode": lambda out: decode(
            model, decoder, episodes, strips=5, steps=10, stretches=70, decoder_revision=None, out=out, **shared
        ),
    }
    encoded = {}
    for name, measure in asked.items():
        with frames_counted(model) as counts:
            found = measure(folder / name)
        encoded[name] = sum(counts)
        # Each process knows the whole, not the main one alone.
        assert found.result.to_json()["kind"] == name
    return encoded


if __name__ == "__main__":
    with launched_ranks() as ranks:
        assert LeWMConfig.from_pretrained(sys.argv[1]).image_size == 28
        encoded = analyze(Path(sys.argv[1]), Path(sys.argv[2]), ranks)
        Path(sys.argv[2], f"rank-{ranks.number}.json").write_text(json.dumps(encoded))
