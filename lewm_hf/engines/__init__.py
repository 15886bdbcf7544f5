"""Where work runs: on the cores of this machine, on a Ray cluster, or on an engine of one's own.

An engine is a subclass of `Engine`; `register_engine` makes it known as `collect(on="my-name")`, and a package that
offers it as an entry point of the group `lewm_hf.engines` as `lewm collect --on my-name`, too.
"""

from .base import Engine, File, Wanted, Write
from .registry import check_engine, engine_names, opened_engine, register_engine
from .workers import Report, Work

__all__ = [
    "Engine",
    "File",
    "Report",
    "Wanted",
    "Work",
    "Write",
    "check_engine",
    "engine_names",
    "opened_engine",
    "register_engine",
]
