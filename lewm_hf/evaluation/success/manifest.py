"""Manifests: fixed lists of start-goal pairs, with the states in them, so that they work without the data set too."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_atomic
from ...tasks.registry import find_task, make_env
from ...tasks.state_env import StateEnv
from ..common.outputs import read_object
from ..common.provenance import dataset_fingerprint
from .pairs import PairCounts, draw_order, select_pairs
from .protocol import CHOICES, Protocol, content_hash

FORMAT = 1
# The part of a protocol that decides which pairs exist; the rest may differ between two uses of a manifest.
PAIR_FIELDS = ("split", "draw", "goal_offset", "drop_solved", "opposite_rooms", "shoulder")
# What a manifest may say. A problem's number, `Pair.problem`, has to fit into 64 bits.
MOST_FRAMES, MOST_EPISODES, MOST_SEEDS = 2**20, 2**43, 2**62
LARGEST_PICTURE, LARGEST_STATE = 4096, 1e9


@dataclass(frozen=True)
class Pair:
    """One problem: reach `goal_state`, the state `goal_frame - start_frame` steps later, from `start_state`."""

    episode: int
    start_frame: int
    goal_frame: int
    start_state: tuple[float, ...]
    goal_state: tuple[float, ...]

    @property
    def problem(self) -> int:
        """What a planner's noise is drawn for: the same whatever other pairs are in the manifest."""
        return self.episode * 2**20 + self.start_frame


@dataclass(frozen=True)
class Manifest:
    """Start-goal pairs of one seed.

    Args:
        env_id: id with version, `"lewm/TwoRoom-v0"`; `state_names` names the entries of the states.
        env_kwargs: how the environment of the episodes was made (its `image_size`, its `compat`).
        protocol: label of the protocol that chose the pairs, and `rule`, the values that decided.
        seed: of the draw.
        counts: how many pairs the data set held.
        dataset: fingerprint of the episodes.
        pairs: sorted by episode and frame.
    """

    env_id: str
    state_names: tuple[str, ...]
    env_kwargs: Mapping[str, Any]
    protocol: str
    rule: Mapping[str, Any]
    seed: int
    counts: PairCounts
    dataset: str
    pairs: tuple[Pair, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def start_states(self) -> np.ndarray:
        """`(n, state)` float64."""
        return np.array([pair.start_state for pair in self.pairs], dtype=np.float64)

    @property
    def goal_states(self) -> np.ndarray:
        """`(n, state)` float64."""
        return np.array([pair.goal_state for pair in self.pairs], dtype=np.float64)

    @property
    def hash(self) -> str:
        """SHA-256 of everything in it."""
        return content_hash(self.to_dict())

    def take(self, n: int) -> "Manifest":
        """The `n` pairs that a draw of `n` gives with this seed.

        Raises:
            ValueError: where there are fewer.
        """
        if n > len(self):
            raise ValueError(f"n={n} pairs were asked for, but the manifest holds {len(self)}: ask for fewer (-n)")
        ids, frames = np.array([(pair.episode, pair.start_frame) for pair in self.pairs]).T
        chosen = sorted(draw_order(self.rule["draw"], self.seed, ids, frames)[:n])
        return replace(self, pairs=tuple(self.pairs[index] for index in chosen))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the file, without the hash."""
        return {
            "format": FORMAT,
            "env_id": self.env_id,
            "state_names": list(self.state_names),
            "env_kwargs": dict(self.env_kwargs),
            "protocol": self.protocol,
            "rule": dict(self.rule),
            "seed": self.seed,
            "counts": asdict(self.counts),
            "dataset": self.dataset,
            "pairs": [
                [pair.episode, pair.start_frame, pair.goal_frame, list(pair.start_state), list(pair.goal_state)]
                for pair in self.pairs
            ],
        }

    def save(self, path: str | Path) -> Path:
        """Writes JSON with the hash, one pair a line; floats are exact."""
        content = self.to_dict()
        pairs = content.pop("pairs")
        head = json.dumps({"hash": self.hash, **content}, indent=1)
        lines = ",\n".join(f"  {json.dumps(pair)}" for pair in pairs)
        return write_atomic(path, f'{head[:-2]},\n "pairs": [\n{lines}\n ]\n}}\n')

    def check_env(self, env: StateEnv, env_id: str) -> None:
        """Refuses an environment that the manifest was not made for.

        Raises:
            ValueError: for another id, version or state vector.
        """
        if env_id != self.env_id:
            raise ValueError(f"the manifest was made for {self.env_id}, not for {env_id}: draw another one")
        if tuple(env.state_names) != tuple(self.state_names):
            raise ValueError(
                f"the manifest's states are ({', '.join(self.state_names)}), but {env_id} now has "
                f"({', '.join(env.state_names)}): draw the manifest again with this version"
            )

    def check_protocol(self, protocol: Protocol) -> None:
        """Refuses a protocol that would have chosen other pairs.

        Raises:
            ValueError: naming the first value that differs.
        """
        for name in PAIR_FIELDS:
            if self.rule[name] != getattr(protocol, name):
                raise ValueError(
                    f"the manifest was drawn with {name}={self.rule[name]}, but protocol {protocol.label} has "
                    f"{name}={getattr(protocol, name)}: use a manifest of this protocol, or override {name}"
                )

    def check_episodes(self, episodes: Any) -> None:
        """Refuses a data set that the pairs were not drawn from.

        Raises:
            ValueError: naming both fingerprints.
        """
        found = dataset_fingerprint(episodes)
        if found != self.dataset:
            raise ValueError(
                f"the manifest was drawn from the data set {self.dataset[:12]}, but this one is {found[:12]}: "
                f"omit the data set (the states are in the manifest), or draw a new manifest"
            )


def protocol_env_kwargs(env_id: str, env_kwargs: Mapping[str, Any], protocol: Protocol) -> dict[str, Any]:
    """`env_kwargs` of the episodes, with the success rule that the protocol asks for (`Task.protocol_arguments`)."""
    return {**env_kwargs, **find_task(env_id).environment_arguments(protocol)}


def sample_manifest(episodes: Any, protocol: Protocol, n: int, seed: int) -> Manifest:
    """Draws `n` start-goal pairs from the episodes by the protocol's rule (see `select_pairs`).

    Args:
        episodes: an `EpisodeData` of the split that the protocol names.

    Raises:
        ValueError: where the episodes hold fewer admitted pairs, or belong to another split.
    """
    split = getattr(episodes, "split", protocol.split)
    if split != protocol.split:
        raise ValueError(
            f"protocol {protocol.label} draws from split={protocol.split!r}, but these episodes are {split!r}: "
            f"load the other split or override split={split}"
        )
    if episodes.env_id is None:
        raise ValueError(
            f"{episodes.name} does not say which environment it was collected in, so its starts cannot be restored: "
            "collect or import it with this package"
        )
    env_id = find_task(episodes.env_id).env_id
    env = make_env(env_id, **protocol_env_kwargs(env_id, episodes.env_kwargs, protocol))
    # The scene has to exist before rules about rooms can be asked.
    env.reset(seed=0, options={"goal_image": False})
    env.remember(episodes)
    rows, index, counts = select_pairs(episodes, env, protocol, n, seed)
    starts, apart = rows - np.asarray(episodes.offsets)[index], episodes.rows_apart(protocol.goal_offset)
    pairs = tuple(
        Pair(
            episode=int(episodes.episode_ids[episode]),
            start_frame=int(start),
            goal_frame=int(start) + apart,
            start_state=tuple(episodes.states[row].tolist()),
            goal_state=tuple(episodes.states[row + apart].tolist()),
        )
        for row, episode, start in zip(rows, index, starts, strict=True)
    )
    state_names = tuple(env.state_names)
    env.close()
    return Manifest(
        env_id=env_id,
        state_names=state_names,
        env_kwargs=dict(episodes.env_kwargs),
        protocol=protocol.label,
        rule={name: getattr(protocol, name) for name in PAIR_FIELDS},
        seed=seed,
        counts=counts,
        dataset=dataset_fingerprint(episodes),
        pairs=pairs,
    )


def load_manifest(path: str | Path) -> Manifest:
    """Reads what `Manifest.save` wrote.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for damaged files and other formats, and where the content does not give its own hash.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no manifest {path}: give a file that `lewm eval --out` wrote into manifests/"
        )
    content = read_object(path, "draw the manifest again")
    if content.get("format") != FORMAT:
        found = _short(content.get("format"))
        raise ValueError(f"manifest {path} has format {found}, expected {FORMAT}: draw it again with this version")
    recorded = content.pop("hash", None)
    try:
        _check_content(content)
        manifest = Manifest(
            env_id=content["env_id"],
            state_names=tuple(content["state_names"]),
            env_kwargs=content["env_kwargs"],
            protocol=content["protocol"],
            rule=content["rule"],
            seed=content["seed"],
            counts=PairCounts(**content["counts"]),
            dataset=content["dataset"],
            pairs=tuple(Pair(e, s, g, tuple(start), tuple(goal)) for e, s, g, start, goal in content["pairs"]),
        )
        found = manifest.hash
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"manifest {path} lacks or misspells a field ({error}): draw it again") from error
    if recorded != found:
        raise ValueError(
            f"manifest {path} was changed after it was written: its content gives hash {found[:12]}, the file says "
            f"{str(recorded)[:12]}"
        )
    return manifest


def _check_content(content: Mapping[str, Any]) -> None:
    """Refuses numbers that no episode and no state can have, before anything is computed with them.

    Raises:
        KeyError, TypeError, ValueError: naming the value.
    """

    def whole(name: str, value: Any, limit: int) -> int:
        if type(value) is not int or not 0 <= value < limit:
            raise ValueError(f"{name} is {_short(value)}, expected a whole number from 0 to {limit - 1}")
        return value

    for name, kind in (("env_id", str), ("protocol", str), ("dataset", str), ("state_names", list),
                       ("env_kwargs", dict), ("rule", dict), ("counts", dict), ("pairs", list)):  # fmt: skip
        if type(content[name]) is not kind:
            raise ValueError(f"{name} is {_short(content[name])}, expected a {kind.__name__}")
    whole("seed", content["seed"], MOST_SEEDS)
    for name, value in content["counts"].items():
        whole(f"counts: {name}", value, 2**63)
    if missing := [name for name in PAIR_FIELDS if name not in content["rule"]]:
        raise ValueError(f"rule has no {missing[0]}")
    for name, allowed in CHOICES.items():
        if name in PAIR_FIELDS and content["rule"][name] not in allowed:
            raise ValueError(f"rule: {name} is {_short(content['rule'][name])}, expected {' or '.join(allowed)}")
    offset = whole("rule: goal_offset", content["rule"]["goal_offset"], MOST_FRAMES)
    size = content["env_kwargs"].get("image_size", LARGEST_PICTURE)
    if whole("env_kwargs: image_size", size, LARGEST_PICTURE + 1) < 8:
        raise ValueError(f"env_kwargs: image_size is {size}, expected at least 8")
    if not content["pairs"]:
        raise ValueError("pairs is empty")
    for number, (episode, start, goal, *states) in enumerate(content["pairs"]):
        where = f"pair {number}"
        whole(f"{where}: episode", episode, MOST_EPISODES)
        whole(f"{where}: start frame", start, MOST_FRAMES)
        if whole(f"{where}: goal frame", goal, MOST_FRAMES) - start != offset:
            raise ValueError(f"{where} spans {goal - start} frames, but goal_offset is {offset}")
        for state in states:
            if type(state) is not list or len(state) != len(content["state_names"]):
                raise ValueError(
                    f"{where} has the state {_short(state)}, expected {len(content['state_names'])} values"
                )
            for value in state:
                if type(value) not in (int, float) or not abs(value) <= LARGEST_STATE:
                    raise ValueError(f"{where} has {_short(value)} in a state, expected a finite number")


def _short(value: Any) -> str:
    text = (
        repr(value) if not isinstance(value, int) or abs(value) < 10**20 else f"a number of {value.bit_length()} bits"
    )
    return text if len(text) <= 40 else f"{text[:40]}..."
