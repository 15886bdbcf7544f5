"""The start-goal manifests that ship with the package: the same problems for everybody, without any data set.

Those of `clean` come from the last tenth of the episodes of `lewm collect ENV --preset paper`. A model that was trained
on this data set as it is split, on other seeds or on other data has not seen them; a larger collection with the
preset's seed (3072), or one with a smaller test split, would train on them.
"""

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from ...tasks.registry import short_name
from .manifest import Manifest, load_manifest
from .protocol import Protocol


def shipped_folder() -> Path:
    """Where they lie."""
    with as_file(files("lewm_hf.evaluation.success") / "manifests") as folder:
        return Path(folder)


def shipped_name(env: str, protocol: Protocol, seed: int) -> str:
    """Name of the file for an environment, a protocol's goal offset and a seed: `two_room-clean-25-seed42.json`."""
    return f"{short_name(env)}-{protocol.name}-{protocol.goal_offset}-seed{seed}.json"


def _offered(env: str) -> str:
    """`"clean at 25, 50, 75, 100; paper at 25; seeds 42, 43, 44"`, nothing where none ship."""
    names = [path.stem.removeprefix(f"{env}-").split("-") for path in shipped_folder().glob(f"{env}-*.json")]
    if not names:
        return ""
    offsets = {
        protocol: sorted({int(o) for p, o, _ in names if p == protocol}) for protocol in sorted({n[0] for n in names})
    }
    seeds = sorted({int(seed.removeprefix("seed")) for *_, seed in names})
    parts = [f"{protocol} at {', '.join(map(str, values))}" for protocol, values in offsets.items()]
    return "; ".join([*parts, f"seeds {', '.join(map(str, seeds))}"])


def shipped_manifests(env: str, protocol: Protocol, seeds: Sequence[int], n: int | None = None) -> list[Manifest]:
    """One manifest per seed.

    Args:
        env: short name or id of the environment.
        n: pairs of each: those that a draw of `n` gives. Default: the protocol's number.

    Raises:
        FileNotFoundError: where none ships for this protocol, offset or seed, naming those that do.
        ValueError: where the protocol would choose other pairs, or `n` is larger than what ships.
    """
    manifests = []
    for seed in seeds:
        path = shipped_folder() / shipped_name(env, protocol, seed)
        if not path.is_file():
            offered = _offered(short_name(env))
            raise FileNotFoundError(
                f"no pairs ship for {short_name(env)}, protocol {protocol.name}, goal_offset={protocol.goal_offset}, "
                f"seed {seed}: give episodes to draw them from (--episodes){offered and f', or choose of {offered}'}"
            )
        manifest = load_manifest(path)
        manifest.check_protocol(protocol)
        manifests.append(manifest.take(protocol.pairs if n is None else n))
    return manifests
