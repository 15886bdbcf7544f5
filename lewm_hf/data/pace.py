"""Simulator steps and rows: a data set may keep every n-th step only."""


def rows_apart(steps: int, every: int, name: str) -> int:
    """Rows between two frames that are `steps` simulator steps apart, where a row is `every` steps long.

    Args:
        name: what the error message calls the data set.

    Raises:
        ValueError: one line where no two rows are so far apart.
    """
    if steps % every:
        below = steps - steps % every
        near = f"{below} or {below + every}" if below else f"{every}"
        raise ValueError(
            f"the rows of {name} are {every} steps apart, so no two of its frames are {steps} steps apart: use {near}, "
            "or episodes with every step"
        )
    return steps // every
