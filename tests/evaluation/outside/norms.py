"""What a user writes to add an analysis: one file of another package. How long are the embeddings?"""

from dataclasses import dataclass

from lewm_hf import Analysis, register_analysis
from lewm_hf.evaluation.common.embeddings import encode_rows, sample_frames
from lewm_hf.evaluation.common.inputs import open_inputs
from lewm_hf.evaluation.common.plots import figure
from lewm_hf.records import Result


@dataclass(frozen=True)
class Norms(Result):
    kind = "norms"

    frames: int
    mean: float
    lengths: list[float]


@register_analysis
class MeasureNorms(Analysis):
    kind, title, result_type, pictures = "norms", "Length of the embeddings", Norms, ("norms.png",)

    def __init__(self, model, episodes, *, frames=20, **opening):
        self.inputs = open_inputs(model, episodes, **opening)
        self.sample = sample_frames(self.inputs.episodes, frames, seed=0)

    def question(self):
        return {"frames": len(self.sample), **self.inputs.question()}

    def run(self):
        agent, episodes = self.inputs.agent, self.inputs.episodes
        found = encode_rows(agent.model, agent.processor, episodes, self.sample.rows)["embeddings"]
        lengths = found.flatten(1).norm(dim=1)
        return Norms(frames=len(lengths), mean=float(lengths.mean()), lengths=lengths.tolist())

    @classmethod
    def text(cls, result):
        return f"{result.frames} embeddings, {result.mean:.3f} long on average"

    def draw(self, out):
        with figure(out / "norms.png", 3, 2) as axes:
            axes.hist(self.found.lengths)
