"""Runs where `lewm_hf` cannot be imported: loads checkpoints with the code they bring along, and plans.

`python -S without_package.py OUT DATASET SOURCE[@REVISION]...`: sources and data set are folders or Hub ids; the
numbers go to OUT, those of the first source under `0_...`.
"""

import importlib.util
import sys
import tempfile

import numpy as np


def numbers_of(source: str, revision: str | None) -> dict:
    import torch
    from transformers import AutoImageProcessor, AutoModel, pipeline

    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    trusted, search = {"trust_remote_code": True, "revision": revision}, {"samples": 8, "iterations": 2, "elites": 4}
    model = AutoModel.from_pretrained(source, **trusted)
    processor = AutoImageProcessor.from_pretrained(source, **trusted)
    with torch.no_grad():
        embeddings = model.encode(processor(list(frames))["pixel_values"][None])
    planner = pipeline(model=source, **trusted, **search, horizon=2)
    plan = planner({"observation": frames[0], "goal": frames[1]})
    again = []
    for parts in ([planner], [model, processor]):  # what is saved again plans again, as a planner or in its parts
        with tempfile.TemporaryDirectory() as folder:
            for part in parts:
                part.save_pretrained(folder)
            saved = pipeline(model=folder, trust_remote_code=True, **search, horizon=2)
            again.append(saved({"observation": frames[0], "goal": frames[1]})["actions"])
    refused = 0
    for load in (AutoModel.from_pretrained, AutoImageProcessor.from_pretrained):
        try:
            load(source, trust_remote_code=False, revision=revision)
        except ValueError as error:
            refused += "trust_remote_code=True" in str(error)
    return {
        "embeddings": embeddings.numpy(), "actions": plan["actions"], "cost": plan["cost"], "again": again,
        "home": type(model).__module__, "refused": refused,
    }  # fmt: skip


def main(out: str, dataset: str, *sources: str):
    assert importlib.util.find_spec("lewm_hf") is None
    import datasets

    numbers = {}
    for number, source in enumerate(sources):
        name, _, revision = source.partition("@")
        numbers |= {f"{number}_{key}": value for key, value in numbers_of(name, revision or None).items()}
    rows = datasets.load_dataset(dataset)
    np.savez(out, **numbers, **{f"data_{split}": np.array(rows[split]["action"]) for split in rows})


if __name__ == "__main__":
    main(*sys.argv[1:])
