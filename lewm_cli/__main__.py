"""`python -m lewm_cli`."""

import sys

from . import main

sys.exit(main())
