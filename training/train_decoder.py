"""Trains a decoder that makes the embeddings of a frozen LeWM visible.

    accelerate launch training/train_decoder.py training/recipes/decoder.yaml \
        --model runs/tworoom/best --dataset DIR --output_dir runs/tworoom-decoder

The world model is never changed. Every key of the recipe (`lewm_hf.training.decoder_arguments.DecoderRecipe`) can be
given on the command line. The folder of the run is that of training/train.py. `lewm train-decoder` is the same where
only the package is installed.
"""

import sys

from lewm_hf.training.decoder import main, train_decoder

__all__ = ["main", "train_decoder"]

if __name__ == "__main__":
    sys.exit(main())
