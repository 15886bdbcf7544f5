"""One clear line where an optional dependency is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """Turns a failed import inside the block into an `ImportError` that names the pip extra to install.

    ```python
    with requires_extra("pusht"):
        import pymunk
    ```
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lewm_hf"):
            raise
        raise ImportError(
            f"the module {error.name!r} is missing: install it with `pip install 'lewm-hf[{extra}]'`", name=error.name
        ) from error
