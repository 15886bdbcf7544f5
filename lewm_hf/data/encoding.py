"""The module of `storage.encoding` under the name that scripts written before know."""

import sys

from .storage import encoding

sys.modules[__name__] = encoding
