"""A result in words, for a terminal."""

from typing import Any

from .result import EvaluationResult, Rate

_NOT_SHOWN = ("name", "version", "label", "hash", "overrides", "default_planner")
_PAIRS = {
    "drawn": "pairs drawn from the episodes", "given": "pairs of the given manifests",
    "shipped": "pairs that ship with the package",
}  # fmt: skip
_FLOOR_NAMES = {"random": "random policy", "zero_action": "zero actions"}


def percent(value: float) -> str:
    """`0.87` -> `"87.0 %"`."""
    return f"{100 * value:.1f} %"


def format_rate(value: Rate) -> str:
    """`"87.0 %   95 % interval 79.0-92.2   87 of 100"`."""
    low, high = (100 * end for end in value.interval)
    return f"{percent(value.rate):>7}   95 % interval {low:.1f}-{high:.1f}   {value.successes} of {value.n}"


def planner_values(result: EvaluationResult) -> dict[str, tuple[Any, bool]]:
    """Every value of who planned, and whether it differs from the planner's file; none of the actor and the floors."""
    planner = result.planner
    return {name: (value, name in planner["overrides"]) for name, value in planner.items() if name not in _NOT_SHOWN}


def protocol_values(result: EvaluationResult) -> dict[str, tuple[Any, bool]]:
    """Every value of the protocol as it was run, and whether it differs from the protocol's file."""
    protocol = result.protocol
    values = {
        name: (value, name in protocol["overrides"]) for name, value in protocol.items() if name not in _NOT_SHOWN
    }
    # How many pairs and seeds is a choice of the run; it changes the interval, not what is measured.
    for name, run in (
        ("pairs", max(entry.n for entry in result.manifests)),
        ("seeds", [entry.seed for entry in result.manifests]),
    ):
        values[name] = (run, run != protocol[name])
    for name in ("first_frame", "goal_frame"):
        values[name] = (getattr(result.dataset, name), getattr(result.dataset, name) != protocol[name])
    return values


def success_words(result: EvaluationResult) -> list[str]:
    """What counts as success; where the environment does not know goals, also where these come from and what must not
    be compared."""
    env = result.env
    words = [f"success: {env.success_rule} at any step within the budget"]
    words += [f"goals: {env.goals}"] if env.goals else []
    return words + [f"not comparable: {remark}" for remark in env.not_comparable or ()]


def format_summary(result: EvaluationResult) -> str:
    """A result as text: every value of the protocol, then success beside its floors."""
    protocol, planner, success = result.protocol, result.planner, result.success
    solved, planning = result.solved_at_start, result.planning
    lines = [
        f"{result.model.source} on {result.env.id}",
        f"protocol {protocol['label']}, hash {protocol['hash'][:12]}; {_PAIRS[result.pairs]}",
        *_columns(protocol_values(result)),
        *(f"  {words}" for words in success_words(result)),
        f"planner {planner['label']}, hash {planner['hash'][:12]}{_bounds(planning.action_bounds)}",
        *_columns(planner_values(result)),
        "",
        _line("success", format_rate(success)),
    ]
    lines += [_line(_FLOOR_NAMES[name], format_rate(floor)) for name, floor in result.floors.items()]
    if result.mcnemar_against_random is not None:
        p_value = result.mcnemar_against_random.p_value
        lines.append(
            _line("excess over random", f"{100 * result.excess['random']:+7.1f} points   McNemar p = {p_value:.2g}")
        )
    lines.append(_line("solved at the start", f"{percent(solved.share):>7}   {solved.n} of {success.n}"))
    if result.mean_steps_to_success is not None:
        lines.append(_line("steps to success", f"{result.mean_steps_to_success:>5.1f}     mean over solved pairs"))
    if result.distinct.pairs < success.n:
        lines.append(
            _line(
                "distinct pairs",
                f"{result.distinct.pairs:>5} of {success.n}, from {result.distinct.episodes} episodes: "
                "intervals and tests count repeated ones as new",
            )
        )
    if len(result.per_seed) > 1:
        lines.append(_line("by seed", "   ".join(f"{entry.seed}: {percent(entry.rate)}" for entry in result.per_seed)))
    lines.append(
        _line(
            "planning",
            f"{planning.seconds_per_plan:>6.3f} s/plan   {planning.plans} plans, {planning.num_envs} pairs "
            f"at a time, {result.hardware['device_name']}; {result.wall_time:.0f} s in all",
        )
    )
    return "\n".join(lines)


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _bounds(bounds: dict[str, Any] | None) -> str:
    """Where actions are clipped: `"; actions clipped to -1..1 (config)"`."""
    if bounds is None:
        return ""
    low, high = bounds["low"], bounds["high"]
    if len({*low}) == len({*high}) == 1:
        low, high = low[0], high[0]
    return f"; actions clipped to {_short(low)}..{_short(high)} ({bounds['source']})"


def _short(value: Any) -> str:
    return f"({', '.join(f'{one:.3g}' for one in value)})" if isinstance(value, list) else f"{value:.3g}"


def _line(name: str, text: str) -> str:
    return f"  {name:<20} {text}".rstrip()


def _columns(values: dict[str, tuple[Any, bool]], count: int = 3) -> list[str]:
    """Names and values in columns; what differs from the protocol's file has a star."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return ",".join(map(str, value))
        return {True: "yes", False: "no", None: "none"}.get(value, str(value)) if _is_word(value) else str(value)

    if not values:
        return []
    cells = [(name, text(value) + "*" * changed) for name, (value, changed) in values.items()]
    rows = -(-len(cells) // count)
    columns = [cells[start : start + rows] for start in range(0, len(cells), rows)]
    blocks = []
    for column in columns:
        names, texts = (max(map(len, part)) for part in zip(*column, strict=True))
        blocks.append([f"{name:<{names}} {value:<{texts}}" for name, value in column])
    lines = ["  " + "   ".join(block[row] for block in blocks if row < len(block)) for row in range(rows)]
    changed = any(changed for _, changed in values.values())
    return [line.rstrip() for line in lines] + ["  * differs from the file"] * changed
