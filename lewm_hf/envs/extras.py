"""As in `lewm_hf.extras`, which can be imported without gymnasium."""

from ..extras import requires_extra

__all__ = ["requires_extra"]
