import base64
import io
import json
import re
import shutil
from collections import Counter
from html import unescape
from html.parser import HTMLParser

import pytest
import yaml
from PIL import Image

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.evaluation.common.results import read_result
from lewm_hf.evaluation.health.run import health
from lewm_hf.evaluation.probe.report import format_probe
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.evaluation.report.analyses import FoundAnalysis
from lewm_hf.evaluation.report.figures import success_figure, training_figures, training_picture
from lewm_hf.evaluation.report.run import write_report
from lewm_hf.evaluation.report.training_run import read_run
from lewm_hf.evaluation.success.run import evaluate

RECIPE = "batch_size: 128\nembed_dim: 32\nlearning_rate: 0.001\n"


def write_run(folder, steps: int = 6):
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "step": step, "prediction_loss": 1 / step, "sigreg_loss": 2.0, "effective_rank": 3.0 * step,
            "embedding_std_min": 0.1, "embedding_std_mean": 0.5, "embedding_std_max": 0.9,
            "prediction_over_copy_last": 0.5,
        }
        for step in range(1, steps + 1)
    ]  # fmt: skip
    records.append(
        {"step": steps, "eval/prediction_loss": 0.3, "eval/success": 0.7, "eval/prediction_over_copy_last": 0.4}
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, episodes):
    folder = write_run(tmp_path_factory.mktemp("report") / "run")
    sizes = {"encoder_hidden_size": 12, "encoder_layers": 1, "predictor_layers": 1, "projector_hidden_size": 16}
    config = LeWMConfig(
        image_size=28, embed_dim=8, predictor_hidden_size=16, action_mean=[0.0, 0.0], action_std=[0.6, 0.6], **sizes
    )
    model, processor = LeWMModel(config).eval(), LeWMImageProcessor(image_size=28)
    quick = {"samples": 8, "iterations": 1, "elites": 2}
    for protocol, changes in (("clean", {}), ("paper", {"split": "test"})):
        evaluate(
            model, processor=processor, episodes=episodes, protocol=protocol, n=4, overrides=quick | changes,
            seeds=[42], out=folder / protocol, videos=1,
        )  # fmt: skip
    return folder


class Links(HTMLParser):
    """Collects what a browser would fetch, and whether tags are balanced."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self):
        super().__init__()
        self.fetched, self.images, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("script", "link", "iframe"):
            self.fetched.append(tag)
        for name in ("src", "href", "srcset"):
            if name in attributes:
                (self.images if attributes[name].startswith("data:") else self.fetched).append(attributes[name])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_complete_and_fetches_nothing(run):
    path = write_report(run, commands=["lewm demo --out 'a <b>'"])
    assert path == run / "report" / "index.html"
    text = path.read_text()
    links = Links()
    links.feed(text)
    assert links.open == [] and links.fetched == []
    assert "url(" not in text.split("</style>")[0] and "@import" not in text
    kinds = [image.split(";")[0] for image in links.images]
    assert kinds.count("data:image/gif") == 2
    assert kinds.count("data:image/svg+xml") == 1 + 6
    for image in links.images:
        data = base64.b64decode(image.partition(",")[2])
        assert data.startswith((b"GIF89a", b"<svg"))
    assert 'name="viewport"' in text
    assert "lewm demo --out &#39;a &lt;b&gt;&#39;" in text
    result = json.loads((run / "paper" / "results.json").read_text())
    success = result["success"]
    assert f"{success['successes']} of {success['n']} goals" in text
    assert f"{100 * result['floors']['random']['rate']:.1f} %" in text
    # The paper's protocol comes first whatever the folders are called.
    assert text.index("paper-v3") < text.index("clean-v1")
    for value in (result["protocol"]["hash"][:12], result["versions"]["torch"], "0.001", "learning_rate"):
        assert value in text


def test_a_run_without_evaluations_and_evaluations_without_a_run(run, tmp_path):
    write_run(tmp_path / "only")
    assert "Prediction loss" in write_report(tmp_path / "only", tmp_path / "page.html").read_text()
    text = write_report(out=tmp_path / "folder", evaluations=[run / "clean"], title="A & B").read_text()
    assert "<title>A &amp; B</title>" in text and "Training</h2>" not in text


def test_every_analysis_below_the_run_is_shown_with_its_pictures(tmp_path, episodes, run):
    """A probe of a model in memory, into a folder of the run; nothing but the folder is given to the report."""
    folder = write_run(tmp_path / "run")
    sizes = {"encoder_hidden_size": 12, "encoder_layers": 1, "predictor_layers": 1, "projector_hidden_size": 16}
    config = LeWMConfig(image_size=28, embed_dim=8, predictor_hidden_size=16, action_mean=[0.0] * 2,
                        action_std=[0.6] * 2, **sizes)  # fmt: skip
    model, processor = LeWMModel(config).eval(), LeWMImageProcessor(image_size=28)
    probing = probe(model, episodes, processor=processor, frames=60, seeds=[0], probes=["linear"], out=folder / "probe")
    health(model, episodes, processor=processor, frames=60, stretches=8, out=folder / "health")
    text = write_report(folder).read_text()
    links = Links()
    links.feed(text)
    assert links.open == [] and links.fetched == []
    pictures = [base64.b64decode(image.partition(",")[2]) for image in links.images if "image/png" in image]
    shown = [folder / "health" / name for name in ("health.png", "neighbors.png")] + [folder / "probe" / "probe.png"]
    assert sorted(pictures) == sorted(path.read_bytes() for path in shown)
    for title in ("What can be read off the embeddings", "Straightness and health"):
        assert title in text
    assert format_probe(probing.result) in unescape(text)
    # Without a training run and without evaluations, analyses are a report of their own.
    (folder / "metrics.jsonl").unlink()
    assert "Straightness and health" in write_report(folder, tmp_path / "alone.html").read_text()


def test_evaluations_of_one_protocol_are_told_apart(run, tmp_path):
    near = json.loads((run / "clean" / "results.json").read_text())
    far = near | {"protocol": near["protocol"] | {"goal_offset": 50}}
    for folder, result in (("a", near), ("b", far), ("c", far)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "results.json").write_text(json.dumps(result))
    two = write_report(out=tmp_path / "two.html", evaluations=[tmp_path / "a", tmp_path / "b"]).read_text()
    for name in ("clean, goals 25 steps away", "clean, goals 50 steps away"):
        assert two.count(f">{name}") >= 2 and f"manifest hash, {name}" in two
    three = write_report(out=tmp_path / "three.html", evaluations=[tmp_path / name for name in "abc"]).read_text()
    assert "clean, goals 50 steps away, c" in three


class Tags(HTMLParser):
    """Counts what a browser would make of a page."""

    def __init__(self):
        super().__init__()
        self.seen: Counter = Counter()
        self.events: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.seen[tag] += 1
        self.events += [name for name, _ in attributes if name.startswith("on")]


LOOKED_UP = {("pairs",), ("films",), ("dataset", "split"), ("protocol", "overrides")}  # chosen by, never shown
FREE_KEYS = {("versions",), ("hardware",), ("env", "kwargs")}


def poisoned(value, text: str, path: tuple = ()):
    """A JSON value whose every string says `text`, keys that anybody may choose included."""
    if path in LOOKED_UP:
        return value
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [poisoned(part, text, path) for part in value]
    if isinstance(value, dict):
        value = {key: poisoned(part, text, (*path, key)) for key, part in value.items()}
        return value | {text: text} if path in FREE_KEYS else value
    return value


def test_nothing_that_a_file_says_becomes_markup(run, tmp_path):
    """Every string of a result, its own keys, a recipe, a probe, the title and the commands at once."""
    poison = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&$x_ {{ 7 * 191 }}"
    folder = write_run(tmp_path / "run")
    shutil.copytree(run / "paper", folder / "paper")
    arguments = {"evaluations": [folder / "paper"], "analyses": []}
    plain, hostile = Tags(), Tags()
    plain.feed(write_report(folder, **arguments).read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"embed_dim": 32, poison: poison}))
    result = json.loads((run / "paper" / "results.json").read_text())
    (folder / "paper" / "results.json").write_text(json.dumps(poisoned(result, poison)))
    analysis = FoundAnalysis("probe", poison, poison, (), {}, folder)
    text = write_report(
        folder, evaluations=[folder / "paper"], analyses=[analysis], commands=[poison], title=poison
    ).read_text()
    hostile.feed(text)
    assert hostile.seen["script"] == 0 and hostile.events == []
    assert hostile.seen["img"] == plain.seen["img"] > 0
    assert unescape(text).count(poison) > 20 and "1337" not in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", '{"format": 2}'),
        ("probe.json", '{"kind": "probe", "format": 1}'),
        ("recipe.yaml", "a: [1"),
        ("recipe.yaml", "- 1"),
        ("metrics.jsonl", '[1]\n{"step": 2}\n'),
    ],
)
def test_damaged_files_of_a_run_are_named_in_one_line(name, content, tmp_path):
    (write_run(tmp_path / "run") / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        write_report(tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run" / "report").exists()


def test_pictures_of_others_are_no_films(run, tmp_path):
    shutil.copytree(run / "clean", tmp_path / "clean")
    for name in ("holiday.gif", "my-seed1-episode2.gif"):
        (tmp_path / "clean" / "videos" / name).write_bytes(b"GIF89a")
    text = write_report(out=tmp_path / "page.html", evaluations=[tmp_path / "clean"]).read_text()
    assert text.count("<figcaption>") == 1


def test_the_same_inputs_give_the_same_page(run, tmp_path):
    first, second = (write_report(run, tmp_path / name, evaluations=[run / "clean"]).read_bytes() for name in "ab")
    assert first == second


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nothing to report"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="no place"):
        write_report(evaluations=[tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_being_written_is_left_out_but_damage_is_refused(tmp_path):
    path = write_run(tmp_path) / "metrics.jsonl"
    text = path.read_text()
    records = [json.loads(line) for line in text.splitlines()]
    path.write_text(text + '{"step": 7, "predic')
    assert read_run(tmp_path)[0] == records
    path.write_text("{broken\n" + text)
    with pytest.raises(ValueError, match="line 1, is not valid JSON"):
        read_run(tmp_path)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_curves_of_a_run(tmp_path):
    records, recipe = read_run(write_run(tmp_path))
    figures = training_figures(records, (1.05, 51.5), recipe["embed_dim"])
    assert list(figures) == [
        "Prediction loss", "SIGReg", "Effective rank of the embeddings", "Standard deviation per dimension",
        "Prediction loss over copy-last", "Goals reached while training, %",
    ]  # fmt: skip
    assert {"Gaussian: 1.05", "collapsed: 51.5"} <= set(texts(figures["SIGReg"]))
    assert "all 32 dimensions" in texts(figures["Effective rank of the embeddings"])
    assert {"training", "held-out"} <= set(texts(figures["Prediction loss"]))
    assert list(training_figures([{"step": 1, "prediction_loss": 0.5}])) == ["Prediction loss"]
    for svg in figures.values():  # no label is a formula that nobody parsed
        assert not [text for text in texts(svg) if "$" in text or "\\" in text]


def test_the_curves_of_a_run_as_one_picture(tmp_path):
    records, recipe = read_run(write_run(tmp_path))
    picture = training_picture(records, (1.05, 51.5), recipe["embed_dim"])
    assert training_picture(records, (1.05, 51.5), recipe["embed_dim"]) == picture
    wide = Image.open(io.BytesIO(picture))
    alone = Image.open(io.BytesIO(training_picture([{"step": 1, "prediction_loss": 0.5}])))
    assert (wide.width, wide.height) == (3 * alone.width, 2 * alone.height)  # six curves in rows of three
    assert training_picture([{"step": 1, "seconds": 0.5}]) is None


def test_the_bars_say_what_was_measured(run):
    results = {name: read_result(run / name) for name in ("paper", "clean")}
    found = texts(success_figure(results))
    assert {"paper: world model", "clean: world model", "random", "zero actions"} <= set(found)
    for result in results.values():
        assert f"{100 * result.success.rate:.0f} %" in found
