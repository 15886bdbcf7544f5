"""Trains a LeWM world model.

    accelerate launch training/train.py training/recipes/tworoom.yaml --output_dir runs/tworoom
    accelerate launch training/train.py training/recipes/tworoom.yaml --output_dir runs/tworoom --resume

Every key of the recipe (`lewm_hf.training.arguments.TrainingRecipe`) and of the model (`LeWMConfig`) can be given on
the command line too. The folder of the run holds metrics.jsonl, the `from_pretrained` folders last/ and best/, and
state/, from which `--resume` continues to the bit. Several processes compute what one would, only faster. `lewm train`
is the same where only the package is installed; the loop is `lewm_hf/training/loop.py`.
"""

import sys

from lewm_hf.training.world_model import main, train

__all__ = ["main", "train"]

if __name__ == "__main__":
    sys.exit(main())
