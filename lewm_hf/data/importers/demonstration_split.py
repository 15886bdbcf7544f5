"""Which demonstrations train and which are held out, as the filter keys `train` and `valid` of their files say."""

from collections.abc import Sequence
from typing import NamedTuple

from .demonstrations import MASKS, Demo, mask

TRAIN, VALID = "train", "valid"


class Split(NamedTuple):
    """Positions of demonstrations.

    Attributes:
        held_out: those of `mask/valid`; where a file has `mask/train` alone, its others.
        left_out: of files that have both, those that neither lists.
        said: the masks that there are, for people: `"mask/train, mask/valid"`.
    """

    held_out: list[int]
    left_out: list[int]
    said: str


def split_of(demos: Sequence[Demo]) -> Split | None:
    """What the masks of all files say; `None` where there are none.

    Raises:
        ValueError: one line for a demonstration that is listed in both, or not there.
    """
    held_out: list[int] = []
    left_out: list[int] = []
    there: set[str] = set()
    for file in dict.fromkeys(demo.file for demo in demos):
        numbers = {demo.name: number for number, demo in enumerate(demos) if demo.file is file}
        listed = {}
        for name in (TRAIN, VALID):
            names = mask(file, name)
            if missing := [one for one in names or () if one not in numbers]:
                raise ValueError(
                    f"{MASKS}/{name} of {file.path} lists {missing[0]!r}, which is not in its data: repair the "
                    "mask, or take it away"
                )
            if names is not None:
                listed[name] = {numbers[one] for one in names}
        there |= listed.keys()
        everyone = set(numbers.values())
        train, valid = listed.get(TRAIN, everyone), listed.get(VALID, everyone - listed.get(TRAIN, everyone))
        train = train if TRAIN in listed else everyone - valid
        if both := sorted(train & valid):
            raise ValueError(
                f"{demos[both[0]]} is in {MASKS}/{TRAIN} and in {MASKS}/{VALID}: nobody can train and be "
                "held out; take it out of one"
            )
        held_out += sorted(valid)
        left_out += sorted(everyone - train - valid)
    if not there:
        return None
    return Split(held_out, left_out, ", ".join(f"{MASKS}/{name}" for name in sorted(there)))
