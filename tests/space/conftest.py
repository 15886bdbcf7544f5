"""The Space is a folder of scripts, not a package: its modules are imported by path."""

import sys
from pathlib import Path

SPACE = Path(__file__).parents[2] / "model_cards" / "space"
sys.path.insert(0, str(SPACE))
