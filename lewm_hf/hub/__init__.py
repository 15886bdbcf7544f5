"""Published checkpoints in, cards and uploads out."""
