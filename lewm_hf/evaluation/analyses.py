"""The register of analyses: those of this package, of installed packages, and of the user's own code."""

from ..offered import load_offered, offered_names
from .common.analysis import Analysis
from .decode.run import DecodeAnalysis
from .health.run import HealthAnalysis
from .probe.run import ProbeAnalysis
from .success.comparison import Comparison
from .surprise.run import SurpriseAnalysis

# A package offers analyses by naming them in its metadata: `norms = "my_package.norms:MeasureNorms"`.
ENTRY_POINTS = "lewm_hf.analyses"
_registered: dict[str, type[Analysis]] = {
    kind.kind: kind for kind in (ProbeAnalysis, SurpriseAnalysis, HealthAnalysis, DecodeAnalysis, Comparison)
}


def register_analysis(kind: type[Analysis]) -> type[Analysis]:
    """Makes an analysis known, so that reports show its results; a decorator of its class.

    Registering it again changes nothing.

    Returns:
        `kind`.

    Raises:
        ValueError: for a class that is no complete `Analysis`, or whose `kind` another one has.
    """
    if not (isinstance(kind, type) and issubclass(kind, Analysis)):
        raise ValueError(f"{kind!r} is not a subclass of Analysis: derive it from lewm_hf.Analysis")
    missing = [name for name in ("kind", "title", "result_type") if not hasattr(kind, name)]
    missing += sorted(kind.__abstractmethods__)
    if missing:
        raise ValueError(f"{kind.__qualname__} lacks {', '.join(missing)}: every Analysis has them")
    if kind.result_type.kind != kind.kind:
        raise ValueError(
            f"{kind.__qualname__} is of kind {kind.kind!r}, its result of kind {kind.result_type.kind!r}: give both "
            "the same"
        )
    known = _registered.setdefault(kind.kind, kind)
    if known is not kind and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"there is an analysis {kind.kind!r} already, {known.__qualname__}: choose another kind")
    _registered[kind.kind] = kind
    return kind


def all_analyses() -> tuple[type[Analysis], ...]:
    """Every analysis that is known, in the order in which a report shows their results.

    Raises:
        ImportError: where an installed package offers one that cannot be imported.
    """
    for name in offered_names(ENTRY_POINTS):
        if name not in _registered:
            register_analysis(load_offered(ENTRY_POINTS, name, "analysis"))
    return tuple(_registered.values())
