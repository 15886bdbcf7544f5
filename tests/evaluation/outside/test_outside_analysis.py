"""Analyses are open: one file of a user's package adds one, and nothing that was measured is replaced by accident."""

import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
from forks import run

from lewm_hf import Analysis, LeWMImageProcessor, health, probe, register_analysis
from lewm_hf.evaluation.analyses import all_analyses
from lewm_hf.evaluation.report.analyses import find_analyses

from .norms import MeasureNorms, Norms


@pytest.fixture
def opening():
    return {"processor": LeWMImageProcessor(image_size=28)}


def test_one_file_adds_an_analysis(episodes, tiny_model, opening, tmp_path):
    """It runs by itself; in another process, which knows it by the package's metadata alone, the report shows it."""
    found = MeasureNorms.carry_out(tiny_model, episodes, **opening, out=tmp_path / "run/norms").found
    rows = MeasureNorms(tiny_model, episodes, **opening).sample.rows
    pixels = opening["processor"](episodes.frames(rows))["pixel_values"]
    expected = tiny_model.encode(pixels[None])[0].norm(dim=1).detach()
    np.testing.assert_allclose(found.lengths, expected, rtol=1e-5)
    metadata = tmp_path / "site/norms-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: norms\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[lewm_hf.analyses]\nnorms = norms:MeasureNorms\n")
    paths = [str(tmp_path / "site"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    run(["lewm", "report", tmp_path / "run"], PYTHONPATH=os.pathsep.join(paths)).check_returncode()
    page = (tmp_path / "run/report/index.html").read_text()
    assert "Length of the embeddings" in page and MeasureNorms.text(found) in page
    assert base64.b64encode((tmp_path / "run/norms/norms.png").read_bytes()).decode() in page
    (shown,) = find_analyses(tmp_path)
    assert isinstance(shown.result, Norms) and shown.result == found


def test_what_is_no_analysis_is_refused():
    assert register_analysis(MeasureNorms) is MeasureNorms and MeasureNorms in all_analyses()

    class Half(Analysis):
        kind = "half"

    class Taken(MeasureNorms):
        kind = "probe"
        result_type = type("Other", (Norms,), {"kind": "probe"})

    class Mixed(MeasureNorms):
        kind = "mixed"

    for kind, message in (
        (dict, "is not a subclass of Analysis"),
        (Half, "lacks title, result_type, question, run, text"),
        (Taken, "there is an analysis 'probe' already"),
        (Mixed, "its result of kind 'norms'"),
    ):
        with pytest.raises(ValueError, match=message):
            register_analysis(kind)


def test_another_question_replaces_nothing_unless_told(episodes, tiny_model, opening, tmp_path, monkeypatch):
    fast = {"frames": 60, "seeds": [0], "probes": ["linear"], "targets": ["agent position"], "controls": False}
    first = probe(tiny_model, episodes, **opening, **fast, out=tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    probe(tiny_model, episodes, **opening, **fast, out=tmp_path)
    assert json.loads((tmp_path / "probe.json").read_text())["rows_hash"] == first.result.rows_hash
    with monkeypatch.context() as patched:
        patched.setattr(type(episodes), "frames", lambda *_: pytest.fail("work has started"))
        for change, place in (
            ({"seeds": [1]}, "settings.seeds=[0], this one [1]"),
            ({"probes": ["mlp"]}, "settings.probes"),
            ({"targets": ["agent velocity"]}, "units"),
        ):
            with pytest.raises(ValueError) as error:
                probe(tiny_model, episodes, **opening, **fast | change, out=tmp_path)
            assert place in str(error.value) and "--overwrite" in str(error.value) and "\n" not in str(error.value)
        with pytest.raises(ValueError, match="cannot be a folder"):
            health(tiny_model, episodes, **opening, out=tmp_path / "probe.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    again = probe(tiny_model, episodes, **opening, **fast | {"seeds": [1]}, out=tmp_path, overwrite=True)
    written = json.loads((tmp_path / "probe.json").read_text())
    assert written["rows_hash"] == again.result.rows_hash != first.result.rows_hash
    (tmp_path / "health.json").write_text('{"kind": "of somebody else"}')
    with pytest.raises(ValueError, match="another program's file"):
        health(tiny_model, episodes, **opening, out=tmp_path)


def test_a_file_of_an_earlier_version_may_be_measured_again(episodes, tiny_model, opening, tmp_path):
    """It says less about its settings; what it says has to agree."""
    fast = {"frames": 60, "seeds": [0], "probes": ["linear"], "targets": ["agent position"], "controls": False}
    probe(tiny_model, episodes, **opening, **fast, out=tmp_path)
    content = json.loads((tmp_path / "probe.json").read_text())
    del content["settings"]["probes"], content["settings"]["controls"]
    (tmp_path / "probe.json").write_text(json.dumps(content))
    (shown,) = find_analyses(tmp_path)
    assert shown.result.settings.probes is None and "agent position" in shown.text
    probe(tiny_model, episodes, **opening, **fast, out=tmp_path)
    assert json.loads((tmp_path / "probe.json").read_text())["settings"]["controls"] is False
