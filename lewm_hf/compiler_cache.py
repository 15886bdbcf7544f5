"""What `torch.compile` keeps on disk: where that is, and one line where it can no longer be read."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def naming_the_compilers_cache() -> Iterator[None]:
    """Where compiling fails within this block, or function, tells of the folder in which half a file may be the reason.

    A process that is killed while it compiles leaves files that are cut short, and every later one fails to load them.

    Raises:
        OSError: one line, from the compiler's error.
    """
    try:
        yield
    except RuntimeError as error:
        raised = sys.modules.get("torch._dynamo.exc")  # takes a second to import: nothing compiled without it
        if raised is None or not isinstance(error, raised.BackendCompilerFailed):
            raise
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        reason = f"{type(error.inner_exception).__name__}: {error.inner_exception}".strip().splitlines()[0]
        raise OSError(
            f"torch.compile failed ({reason}): if a process was killed while it compiled, half a file may be left of "
            f"it in {cache_dir()}; delete that folder and do the same again, or do it without compile"
        ) from error
