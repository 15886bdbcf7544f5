"""What every analysis of a model is: a question that is settled before any work starts, a result, words and pictures.

One of your own is a subclass, made known by `register_analysis`; see `Analysis`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, final

from ...records import Result
from .outputs import check_out, clear, read_object
from .ranks import ALONE, Ranks
from .results import write_result


class Analysis(ABC):
    """One question to a frozen model. Its constructor opens and checks everything that it needs.

    ```python
    @dataclass(frozen=True)
    class Norms(Result):
        kind = "norms"
        mean: float

    @register_analysis
    class MeasureNorms(Analysis):
        kind, title, result_type, pictures = "norms", "Length of the embeddings", Norms, ("norms.png",)

        def __init__(self, model, episodes):
            self.inputs = open_inputs(model, episodes)
        ...

    MeasureNorms.carry_out("org/model", "org/episodes", out="run/norms")  # and `lewm report run` shows it
    ```

    Attributes:
        kind: a word: the result is `KIND.json`.
        title: a headline.
        result_type: what `run` returns.
        pictures: patterns of the files that `draw` writes, in the order in which to show them.
        ranks: processes that carry it out together; `run` may divide its work among them, and every process must get
            the whole result. Nothing is to be done for that by an analysis whose `run` does not divide anything.
        found: the result, once there is one.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    result_type: ClassVar[type[Result]]
    pictures: ClassVar[tuple[str, ...]] = ()
    ranks: Ranks = ALONE
    found: Any

    @abstractmethod
    def question(self) -> Mapping[str, Any]:
        """What decides the result, before any work, by its place in the file: `{"settings.seed": 0}`."""

    @abstractmethod
    def run(self) -> Result:
        """Does the work."""

    @classmethod
    @abstractmethod
    def text(cls, result: Any) -> str:
        """A result as text for a terminal, whether it comes from `run` or from a file."""

    def draw(self, out: Path) -> None:  # noqa: B027
        """Writes the pictures of `found` to a folder; none by default."""

    @final
    @classmethod
    def carry_out(
        cls,
        *inputs: Any,
        out: str | Path | None = None,
        overwrite: bool = False,
        ranks: Ranks = ALONE,
        **settings: Any,
    ) -> Self:
        """Opens an analysis, runs it and writes `KIND.json` and its pictures.

        Args:
            *inputs, **settings: of the constructor.
            out: folder of the files. Default: nothing is written.
            overwrite: replace the result of another question that `out` holds. The same question may be asked again.
            ranks: processes that carry it out together, each of which calls this; the main one writes.

        Returns:
            The analysis, with `found`.

        Raises:
            ValueError: one line, before any work starts, where `out` cannot be a folder or holds the result of another
                question; and whatever the constructor raises.
        """
        ranks.on_main(lambda: check_out(out))
        analysis = ranks.agreed(lambda: cls(*inputs, **settings))
        analysis.ranks = ranks
        if out is not None and not overwrite:
            ranks.on_main(lambda: analysis._check_replaces(Path(out) / f"{cls.kind}.json"))
        # On machines that differ, so do last bits of what each process computed for itself.
        analysis.found = ranks.told(analysis.run())
        if out is not None:
            ranks.on_main(lambda: analysis._write(Path(out)))
        return analysis

    def _write(self, out: Path) -> None:
        clear(out, (f"{self.kind}.json",))
        self.draw(out)
        # Last: where it exists the folder is complete.
        write_result(out / f"{self.kind}.json", self.found.to_json())

    def _check_replaces(self, path: Path) -> None:
        """Refuses to replace what cannot be had again by the same call."""
        if not path.exists():
            return
        remedy = "give another out, or overwrite it (--overwrite)"
        before = read_object(path, remedy)
        if before.get("kind") != self.kind:
            raise ValueError(f"{path} is another program's file: {remedy}")
        for place, value in self.question().items():
            known, old = _lookup(before, place)
            if known and old != _as_read(value):
                raise ValueError(f"{path} has {place}={_short(old)}, this one {_short(value)}: {remedy}")


def _lookup(content: Any, place: str) -> tuple[bool, Any]:
    """Whether a file says anything there, and what; files of earlier versions do not say everything."""
    for name in place.split("."):
        if isinstance(content, list) and name.isdigit() and int(name) < len(content):
            content = content[int(name)]
        elif isinstance(content, dict) and name in content:
            content = content[name]
        else:
            return False, None
    return True, content


def _as_read(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _as_read(one) for key, one in value.items()}
    return [_as_read(one) for one in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}..."
