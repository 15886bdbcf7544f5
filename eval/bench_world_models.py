"""Seconds per plan of LeWM and DINO-WM at their published sizes, in turn on this machine; random weights suffice.

    python eval/bench_world_models.py                                  # CEM of the paper: 300 samples, 30 iterations
    python eval/bench_world_models.py --samples 8 --repeats 1          # a CPU: fewer samples of DINO-WM, scaled to 300

"as published" imagines one problem at a time in float32 by sliding a window through `predict`, all of it again for
every step, as both reference implementations do. "equally optimized" uses the roll-outs of this package, which reuse
keys and values, for several problems at once, in bfloat16 where the processor has the instructions. Observation and
goal are encoded once per plan in both. A sample of DINO-WM is hundreds of tokens, so its plan of 300 x 30 may be scaled
from fewer, about: `--check` measures twice as many, and says how far it is from linear. LeWM imagines all 300: a few of
its samples would be overhead and nothing else.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from lewm_hf import DinoWMConfig, DinoWMModel, LeWMConfig, LeWMModel
from lewm_hf.evaluation.common.provenance import hardware, library_versions
from lewm_hf.files import write_atomic
from lewm_hf.planning import goal_cost
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.training.precision import mixed_precision

SAMPLES, ITERATIONS, HORIZON = 300, 30, 5
STATISTICS = {"action_mean": [0.0, 0.0], "action_std": [1.0, 1.0]}
DINOV2_SMALL = {
    "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 518,
    "patch_size": 14,
}  # fmt: skip


def models(device: torch.device) -> dict:
    """Both at their published sizes."""
    torch.manual_seed(0)
    made = {
        "LeWM": LeWMModel(LeWMConfig(**STATISTICS)),
        "DINO-WM": DinoWMModel(DinoWMConfig(backbone_config=DINOV2_SMALL, pretrained=False, **STATISTICS)),
    }
    return {name: model.to(device).eval() for name, model in made.items()}


def naive_rollout(model, context: Tensor, candidates: Tensor) -> Tensor:
    """The whole window through the predictor for every step."""
    samples, horizon = candidates.shape[1:3]
    latents, blocks = context.repeat_interleave(samples, 0), candidates.flatten(0, 1)
    for end in range(1, horizon + 1):
        window = slice(max(0, end - model.config.history_size), end)
        latents = torch.cat([latents, model.predict(latents[:, window], blocks[:, window])[:, -1:]], 1)
    return latents[:, 1:].unflatten(0, (-1, samples))


class Timing:
    """Times one model in one way.

    Args:
        problems: imagined together.
        samples: of an iteration as it is measured.
    """

    def __init__(self, model, optimized: bool, problems: int, samples: int, device: torch.device):
        self.model, self.optimized, self.problems, self.samples = model, optimized, problems, samples
        precision = mixed_precision("auto", device)
        self.precision = "bf16" if optimized and precision == "bf16" else "fp32"
        size = model.config.image_size
        self.frames = torch.randn(problems, 2, 3, size, size, device=device)
        self.candidates = torch.randn(problems, samples, HORIZON, model.config.action_block_size, device=device)
        self.seconds: dict[str, list[float]] = {"encode": [], "iteration": []}

    @torch.no_grad()
    def run(self) -> None:
        """Encodes observations and goals, then runs one iteration; both are added to `seconds`."""
        device = self.frames.device
        casting = torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with casting:
            start = now(device)
            latents = self.model.encode(self.frames)
            encoded = now(device)
            rollout = self.model.rollout if self.optimized else lambda *given: naive_rollout(self.model, *given)
            predicted = rollout(latents[:, :1], self.candidates)
            goal_cost(predicted, latents[:, 1]).topk(max(1, self.samples // 10), largest=False)
            done = now(device)
        self.seconds["encode"].append((encoded - start) / self.problems)
        self.seconds["iteration"].append((done - encoded) / self.problems)

    def per_plan(self) -> float:
        """Seconds of a plan of 300 samples x 30 iterations, the first run not counted."""
        encode, iteration = (statistics.median(values[1:]) for values in self.seconds.values())
        return encode + ITERATIONS * iteration * SAMPLES / self.samples


def now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def measure(device: torch.device, samples: int, problems: int, repeats: int) -> list[dict]:
    """One row per model and way; the runs of all take turns, so that they see the machine in the same state."""
    made = models(device)
    timings = {
        (name, way): Timing(model, way == "equally optimized", problems if way == "equally optimized" else 1,
                            samples if name == "DINO-WM" else SAMPLES, device)
        for name, model in made.items()
        for way in ("as published", "equally optimized")
    }  # fmt: skip
    for _ in range(repeats + 1):
        for timing in timings.values():
            timing.run()
    return [
        {
            "model": name, "way": way, "seconds_per_plan": timing.per_plan(), "precision": timing.precision,
            "problems": timing.problems, "measured_samples": timing.samples, "repeats": repeats,
            "parameters": sum(parameter.numel() for parameter in timing.model.parameters()),
            "seconds": timing.seconds,
        }
        for (name, way), timing in timings.items()
    ]  # fmt: skip


def table(rows: list[dict]) -> str:
    """One line per row, and the ratio of DINO-WM to LeWM for each way."""
    lines = [f"{'':<10}{'':<20}{'s / plan':>12}{'precision':>11}{'problems':>10}{'parameters':>14}"]
    for row in rows:
        lines.append(
            f"{row['model']:<10}{row['way']:<20}{row['seconds_per_plan']:>12.3f}{row['precision']:>11}"
            f"{row['problems']:>10}{row['parameters']:>14,}"
        )
    seconds = {(row["model"], row["way"]): row["seconds_per_plan"] for row in rows}
    for way in ("as published", "equally optimized"):
        ratio = seconds["DINO-WM", way] / seconds["LeWM", way]
        lines.append(f"DINO-WM over LeWM, {way}: {ratio:.1f}x (the paper: 48x)")
    return "\n".join(lines)


def bench(arguments: argparse.Namespace) -> None:
    """Raises:
    ValueError: for a count below 1.
    """
    if min(arguments.samples, arguments.problems, arguments.repeats) < 1:
        raise ValueError("samples, problems and repeats must be at least 1")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device(arguments.device or accelerator or "cpu")
    print(f"{platform.machine()}, {device}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    rows = measure(device, arguments.samples, arguments.problems, arguments.repeats)
    print(table(rows))
    if arguments.check:
        rows += measure(device, 2 * arguments.samples, arguments.problems, arguments.repeats)
        print(f"with {2 * arguments.samples} samples:\n{table(rows[len(rows) // 2 :])}")
    if arguments.out:
        found = {"hardware": hardware(device), "versions": library_versions(), "rows": rows}
        write_atomic(arguments.out, json.dumps(found, indent=1) + "\n")
        print(f"wrote {arguments.out}")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--device", help="default: the first accelerator, else the CPU")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="candidates that DINO-WM really imagines")
    parser.add_argument("--problems", type=int, default=2, help="planned together where optimized")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="measure with twice the samples too")
    parser.add_argument("--out", type=Path, help="a JSON file for all timings")
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
