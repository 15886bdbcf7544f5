"""transformers' Trainer on the tiny model, a script for torchrun. Usage: CONFIG.json FOLDER BATCH_PER_RANK"""

import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from lewm_hf import LeWMConfig, LeWMModel

WINDOWS = 64


class Windows(torch.utils.data.Dataset):
    """Random training windows, a function of their number; neighbors differ, so that ranks do."""

    def __len__(self):
        return WINDOWS

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {
            "pixel_values": torch.randn(4, 3, 28, 28, generator=generator) + index / WINDOWS,
            "actions": torch.randn(4, 10, generator=generator),
        }


def train(config: LeWMConfig, folder: Path, batch: int) -> dict:
    """Four steps and an evaluation: what this rank ends with."""
    torch.manual_seed(0)
    model = LeWMModel(config)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=4, per_device_train_batch_size=batch, per_device_eval_batch_size=batch,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, seed=1, learning_rate=0.1,
        disable_tqdm=True, optim="sgd",  # Adam makes steps of rounding errors where a gradient is zero
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=Windows(), eval_dataset=Windows())
    trainer.train()
    evaluation = trainer.evaluate()
    return {
        "processes": trainer.accelerator.num_processes,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "eval_loss": evaluation["eval_loss"],
        "weights": {name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
    }


if __name__ == "__main__":
    config, folder, batch = LeWMConfig.from_json_file(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    found = train(config, folder, batch)
    rank = torch.distributed.get_rank()
    torch.save(found, folder / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()
