"""Halves a finished checkpoint: matrices are stored in bfloat16, and BatchNorm's statistics measured anew with them.

    python training/store_bfloat16.py runs/tworoom-cpu/last --episodes runs/episodes/two_room-224 --out runs/half

The model still computes in float32, and vectors (biases, norms, statistics) are stored so: the inputs of a projector's
BatchNorm may have means far from zero, whose rounding would move every embedding.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.folders import check_new_folder, new_folder
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.training.batch_norm import recalibrate_batch_norm

KEPT = ("preprocessor_config.json", "training.json")


def rounded(tensor: Tensor) -> Tensor:
    """A matrix as it is going to be stored; other tensors as they are."""
    return tensor.to(torch.bfloat16) if tensor.dim() > 1 and tensor.is_floating_point() else tensor


def halve(checkpoint: str, episodes: str, out: Path, batches: int, batch_size: int) -> None:
    """Writes the checkpoint to `out`, a new folder."""
    check_new_folder(out)
    agent = load_agent(checkpoint)
    model = agent.model.float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(rounded(parameter))
    windows = WindowDataset(load_episodes(episodes, "train"), model.config)
    drawn = np.random.default_rng(0).choice(len(windows), (batches, batch_size), replace=False)

    def inputs(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        batch = windows.batch(rows)
        frames = torch.as_tensor(batch["pixel_values"])
        pixels = agent.processor(list(frames.flatten(0, 1)), return_tensors="pt")["pixel_values"]
        return pixels.unflatten(0, frames.shape[:2]), torch.as_tensor(batch["actions"])

    # An actor's statistics are what it was fitted with; windows alone do not ask it.
    actors = [part for part in (getattr(model, "actor", None),) if part is not None]
    with torch.no_grad():
        recalibrate_batch_norm(model, (inputs(rows) for rows in tqdm(drawn, unit="batch")), kept=actors)
    state = {name: rounded(tensor).contiguous() for name, tensor in model.state_dict().items()}
    config = json.loads((Path(checkpoint) / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
    with new_folder(out) as folder:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name in KEPT:
            if (Path(checkpoint) / name).is_file():
                shutil.copy(Path(checkpoint) / name, folder / name)
    print(f"wrote {out}: {(out / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", help="folder with model.safetensors")
    parser.add_argument("--episodes", required=True, help="that it was trained on: folder or Hub id")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32, help="windows")
    return run_script(parser, lambda arguments: halve(**vars(arguments)), argv)


if __name__ == "__main__":
    sys.exit(main())
