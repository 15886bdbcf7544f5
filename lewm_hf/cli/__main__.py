"""`python -m lewm_hf.cli`."""

import sys

from . import main

sys.exit(main())
