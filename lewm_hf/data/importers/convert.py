"""`import_dataset` under the name that scripts written before know; it lives in `run`."""

from .run import import_dataset

__all__ = ["import_dataset"]
