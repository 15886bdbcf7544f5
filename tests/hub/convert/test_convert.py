"""Published checkpoints in, the same numbers out; everything else is refused and leaves no trace."""

import copy
import hashlib
import json
import os
import pickle

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lewm_hf import LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.data.storage.dataset_card import FORMAT
from lewm_hf.hub.convert import released
from lewm_hf.hub.convert.released import RELEASES, Release, released_config
from lewm_hf.hub.convert.run import convert
from lewm_hf.hub.convert.weights import read_state_dict
from lewm_hf.planning import goal_cost

from ..fake_hub import Repo
from ..published import PublishedLeWM, new_spelling, original_config, write_checkpoint

IMAGE = 56
SMALL = {"image": IMAGE, "depth": 1, "heads": 2, "head_dim": 16, "mlp": 48, "hidden": 64}


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return PublishedLeWM(**SMALL)


@pytest.fixture(scope="module")
def config():
    return original_config(**SMALL)


@pytest.fixture
def checkpoint(tmp_path, published, config):
    return write_checkpoint(tmp_path / "published", published, config)


def episodes(folder, actions, files=2):
    """A directory of episodes with nothing but actions."""
    (folder / "data").mkdir(parents=True)
    for number, part in enumerate(np.array_split(actions, files)):
        flat = pa.array(part.ravel(), pa.float32())
        column = pa.FixedSizeListArray.from_arrays(flat, part.shape[1])
        split = "test" if number else "train"
        pq.write_table(pa.table({"action": column}), folder / "data" / f"{split}-{number:05d}-of-{files:05d}.parquet")
    return folder


def actions_with_gaps(dims=2, rows=101):
    actions = np.random.default_rng(0).normal(0.3, 0.2, (rows, dims)).astype(np.float32)
    actions[20::20] = np.nan
    return actions


@torch.no_grad()
def test_the_reference_of_these_tests_computes_what_was_recorded(fixtures):
    model = PublishedLeWM(
        image=56, width=24, layers=2, vit_heads=3, depth=2, heads=4, head_dim=16, mlp=48, hidden=64
    )  # fmt: skip
    model.load_state_dict(torch.load(fixtures / "lewm_small" / "weights.pt", weights_only=True), strict=True)
    io = {name: torch.tensor(value) for name, value in np.load(fixtures / "lewm_small" / "io.npz").items()}
    embeddings = model.encode(io["pixel_values"])
    torch.testing.assert_close(embeddings, io["embeddings"], rtol=0, atol=2e-6)
    torch.testing.assert_close(model.predict(embeddings, io["actions"][:, :3]), io["predictions"], rtol=0, atol=2e-6)
    rolled = model.rollout(embeddings[:, :1], io["candidates"][:, 0])
    torch.testing.assert_close(rolled, io["rollout_context_1"][:, 0], rtol=0, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize(
    ("history", "actions", "sizes"),
    [(3, 10, {"image": 224}), (1, 10, SMALL), (3, 25, {"image": IMAGE, "depth": 2}), (1, 25, SMALL)],
)
def test_the_converted_model_computes_the_same(tmp_path, history, actions, sizes):
    torch.manual_seed(history + actions)
    reference = PublishedLeWM(history, actions, **sizes)
    folder = write_checkpoint(tmp_path / "published", reference, original_config(history, actions, **sizes))
    result = convert(folder, out=tmp_path / "out", allow_unknown_weights=True)
    assert result.tensors == len(reference.state_dict())
    assert result.tensors == 303 or sizes.get("depth")
    model = LeWMModel.from_pretrained(tmp_path / "out")
    assert (model.config.history_size, model.config.action_block_size) == (history, actions)
    assert model.config.action_dim == actions // 5

    close = {"rtol": 0, "atol": 1e-5}
    pixels = torch.randn(2, history, 3, sizes["image"], sizes["image"])
    blocks, plans, goal = torch.randn(2, history, actions), torch.randn(2, 4, 5, actions), torch.randn(2, 192)
    embeddings = reference.encode(pixels)
    torch.testing.assert_close(model.encode(pixels), embeddings, **close)
    torch.testing.assert_close(model.predict(embeddings, blocks), reference.predict(embeddings, blocks), **close)
    rolled = model.rollout(embeddings[:, :1], plans)
    for candidate in range(4):
        expected = reference.rollout(embeddings[:, :1], plans[:, candidate])
        torch.testing.assert_close(rolled[:, candidate], expected, **close)
        cost = reference.goal_cost(embeddings[:, :1], plans[:, candidate], goal)
        torch.testing.assert_close(goal_cost(rolled, goal)[:, candidate], cost, rtol=1e-5, atol=0)
    for name, buffer in reference.projector.net[1].named_buffers():
        assert torch.equal(getattr(model.projector.batch_norm, name), buffer)


def wrapped(model):
    return {"state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}, "epoch": 3}


@pytest.mark.parametrize(
    "content",
    [
        lambda model: new_spelling(model.state_dict()),
        lambda model: {"model": model.state_dict()},
        wrapped,
    ],
    ids=["new spelling", "under model", "under state_dict, prefixed"],
)
def test_other_spellings_and_wrappers_give_the_same_file(tmp_path, checkpoint, published, content):
    convert(checkpoint, out=tmp_path / "plain", allow_unknown_weights=True)
    torch.save(content(published), checkpoint / "weights.pt")
    convert(checkpoint / "weights.pt", out=tmp_path / "other", allow_unknown_weights=True)
    plain, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "other"))
    assert plain == other


def test_both_spellings_of_the_config(tmp_path, checkpoint, config):
    convert(checkpoint, out=tmp_path / "new", allow_unknown_weights=True)
    old = copy.deepcopy(config) | {"_target_": "jepa.JEPA", "embed_dim": 192, "history_size": 3}
    old["encoder"]["scale"] = old["encoder"].pop("size")
    old["predictor"]["_target_"] = "module.ARPredictor"
    old["action_encoder"] |= {"smoothed_dim": 10, "mlp_scale": 4}
    (checkpoint / "config.json").write_text(json.dumps(old))
    convert(checkpoint, out=tmp_path / "old", allow_unknown_weights=True)
    assert (tmp_path / "new" / "config.json").read_bytes() == (tmp_path / "old" / "config.json").read_bytes()


def test_the_release_table_reproduces_the_published_configs():
    for release in RELEASES:
        content = (json.dumps(released_config(release.action_dim), indent=4) + "\n").encode()
        assert len(content) == 1313
        assert hashlib.sha256(content).hexdigest() == release.config_sha256
    assert released_config(5) == original_config(3, 25)
    assert {release.repo_id for release in RELEASES} == {
        f"quentinll/lewm-{name}" for name in ("pusht", "cube", "tworooms", "reacher")
    }
    assert all(len(release.revision) == 40 and len(release.weights_sha256) == 64 for release in RELEASES)


def test_pinned_weights_convert_without_leave_and_without_a_config(tmp_path, monkeypatch):
    torch.manual_seed(0)
    folder = write_checkpoint(tmp_path / "weights", PublishedLeWM(), original_config())
    digest = hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
    release = Release("org/pinned", "push_t", "0" * 40, digest, RELEASES[0].config_sha256, 2)
    monkeypatch.setattr(released, "RELEASES", (release,))
    with_config = convert(folder, out=tmp_path / "a")
    assert with_config.release == "org/pinned"
    assert with_config.config_sha256 == release.config_sha256
    facts = json.loads((tmp_path / "a" / "conversion.json").read_text())
    assert (facts["weights_sha256"], facts["tensors"]) == (digest, 303)
    card = (tmp_path / "a" / "README.md").read_text()
    assert digest in card and "base_model: org/pinned" in card and "--env push_t" in card

    (folder / "config.json").write_text(json.dumps(original_config()))  # same content, other bytes
    with pytest.raises(ValueError, match="config.json has SHA-256 .* published with"):
        convert(folder, out=tmp_path / "b")
    (folder / "config.json").unlink()
    assert convert(folder / "weights.pt", out=tmp_path / "b").config_sha256 is None
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()


def test_action_statistics_come_from_a_data_set(tmp_path, checkpoint):
    actions = actions_with_gaps()
    known = actions[~np.isnan(actions).any(1)].astype(np.float64)
    folder = episodes(tmp_path / "two-room", actions)
    with h5py.File(tmp_path / "expert.h5", "w") as file:
        file["action"] = actions
    for dataset, name in ((folder, "two-room"), (tmp_path / "expert.h5", "expert.h5")):
        result = convert(checkpoint, out=tmp_path / f"out-{name}", dataset=dataset, allow_unknown_weights=True)
        config = json.loads((tmp_path / f"out-{name}" / "config.json").read_text())
        np.testing.assert_allclose(config["action_mean"], known.mean(0), rtol=1e-12)
        np.testing.assert_allclose(config["action_std"], known.std(0, ddof=0), rtol=1e-12)
        assert config["action_statistics_source"] == f"{name}: {len(known)} of {len(actions)} rows"
        assert str(len(known)) in result.summary()
        assert str(tmp_path) not in json.dumps(config) + (tmp_path / f"out-{name}" / "conversion.json").read_text()
    planner = LeWMPlanner.from_pretrained(tmp_path / "out-two-room", samples=4, iterations=1, elites=2, horizon=2)
    frames = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3), dtype=np.uint8)
    assert planner({"observation": frames[0], "goal": frames[1]})["actions"].shape == (10, 2)


def test_action_statistics_come_from_a_data_set_of_the_hub_at_a_commit(tmp_path, checkpoint, online):
    actions = actions_with_gaps()
    folder = episodes(tmp_path / "two-room", actions)
    parts = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}
    told = {"episodes.json": json.dumps({"format": FORMAT}).encode(), "data/notes.txt": b"not asked for"}
    wrong = episodes(tmp_path / "wrong", np.ones((7, 2), dtype=np.float32), files=1)
    other = {path.relative_to(wrong).as_posix(): path.read_bytes() for path in wrong.rglob("*.parquet")}
    rooms, archive = (online.repos.setdefault(("dataset", f"org/{name}"), Repo("dataset", False))
                      for name in ("rooms", "archive"))  # fmt: skip
    first = rooms.commit(parts | told)
    rooms.commit(other | told)
    archive.commit({"rooms.tar.zst": b"large"})
    here = convert(checkpoint, out=tmp_path / "here", dataset=folder, allow_unknown_weights=True).action_statistics
    result = convert(
        checkpoint, out=tmp_path / "there", dataset="org/rooms", dataset_revision=first, allow_unknown_weights=True
    )
    found = result.action_statistics
    assert (found.mean, found.std, found.rows, found.counted) == (here.mean, here.std, here.rows, here.counted)
    assert (found.dataset, found.revision) == ("org/rooms", first)
    assert LeWMModel.from_pretrained(tmp_path / "there").config.action_statistics_source == (
        f"org/rooms at {first}: {here.counted} of {here.rows} rows"
    )
    assert f"measured on org/rooms at revision {first}" in (tmp_path / "there" / "README.md").read_text()
    assert not any("notes.txt" in request for request in online.requests)
    out = tmp_path / "out"
    refused(checkpoint, out, "org/archive has no episodes.json, .*hf download org/archive", dataset="org/archive")
    refused(checkpoint, out, "no directory org/none", FileNotFoundError, dataset="org/none")
    refused(checkpoint, out, "revision=main is of a data set on the Hub", dataset=folder, dataset_revision="main")
    refused(checkpoint, out, "dataset_revision=main is of no data set", dataset_revision="main")


def test_without_a_data_set_the_conversion_says_that_planning_will_refuse_and_it_does(tmp_path, checkpoint):
    result = convert(checkpoint, out=tmp_path / "out", allow_unknown_weights=True)
    assert "planning will refuse" in result.summary()
    assert "planning refuses" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="lewm convert --dataset"):
        LeWMPlanner.from_pretrained(tmp_path / "out")
    processor = LeWMImageProcessor.from_pretrained(tmp_path / "out")
    assert (processor.image_size, processor.image_mean) == (IMAGE, [0.485, 0.456, 0.406])


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def refused(source, out, match, error=ValueError, **kwargs):
    """One line, and neither the target nor a leftover beside it."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(error, match=match) as caught:
        convert(source, out=out, **{"allow_unknown_weights": True, **kwargs})
    assert "\n" not in str(caught.value)
    assert sorted(out.parent.iterdir()) == before


@pytest.mark.parametrize("form", ["zip", "pickle", "inside"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, checkpoint, published, form):
    target = tmp_path / "code-ran"
    content = {"encoder.x": Malicious(target)}
    if form == "pickle":
        (checkpoint / "weights.pt").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(published.state_dict() | content if form == "inside" else content, checkpoint / "weights.pt")
    refused(checkpoint, tmp_path / "out", "mkdir.*any code")
    assert not target.exists()


def test_a_pickled_module_is_refused(tmp_path, checkpoint):
    torch.save(torch.nn.Linear(2, 2), checkpoint / "weights.pt")
    refused(checkpoint, tmp_path / "out", "torch.nn.modules.linear.Linear")


@pytest.mark.parametrize("kept", [0, 1, 5, 1000, 0.5, 0.999])
def test_files_cut_short_are_refused(tmp_path, checkpoint, published, kept):
    whole = (checkpoint / "weights.pt").read_bytes()
    cut = int(kept * len(whole)) if isinstance(kept, float) else kept
    (checkpoint / "weights.pt").write_bytes(whole[:cut])
    refused(checkpoint, tmp_path / "out", "weights.pt (is|holds)")
    (checkpoint / "weights.pt").unlink()
    save_file(published.state_dict(), checkpoint / "model.safetensors")
    whole = (checkpoint / "model.safetensors").read_bytes()
    cut = int(kept * len(whole)) if isinstance(kept, float) else kept
    (checkpoint / "model.safetensors").write_bytes(whole[:cut])
    refused(checkpoint, tmp_path / "out", "model.safetensors is damaged or cut short")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(2, 1500), st.integers(0, 255)), max_size=8),
    legacy=st.booleans(),
    tail=st.binary(max_size=20),
)
def test_damaged_files_never_raise_anything_but_one_line(tmp_path_factory, changes, legacy, tail):
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    torch.save({"a": torch.ones(300), "b": torch.zeros(2)}, path, _use_new_zipfile_serialization=not legacy)
    content = bytearray(path.read_bytes())
    for at, value in changes:
        content[at % len(content)] = value
    path.write_bytes(bytes(content) + tail)
    try:
        state = read_state_dict(path)
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_a_release_is_fetched_at_its_pinned_revision(tmp_path, checkpoint, online, monkeypatch):
    files = {name: (checkpoint / name).read_bytes() for name in ("config.json", "weights.pt")}
    repo = online.repos["model", "org/lewm"] = Repo("model", private=True)
    pinned = repo.commit(files)
    changed = repo.commit(files | {"weights.pt": b"other"})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    release = Release("org/lewm", "push_t", pinned, hashes["weights.pt"], hashes["config.json"], 2)
    monkeypatch.setattr(released, "RELEASES", (release,))

    result = convert("org/lewm", out=tmp_path / "out")
    assert (result.release, result.revision) == ("org/lewm", pinned)
    assert pinned in (tmp_path / "out" / "README.md").read_text()
    out, strict = tmp_path / "other", {"allow_unknown_weights": False}
    refused("org/lewm", out, "org/lewm was published with .*or the repository has changed", revision=changed, **strict)
    refused("org/lewm", out, "weights.pt is not a PyTorch file", revision=changed)
    refused("org/lewm", out, "revision nowhere cannot be fetched", OSError, revision="nowhere", **strict)
    refused("org/else", out, "cannot be fetched", OSError)
    online.repos["model", "org/copy"] = Repo("model", private=False)
    online.repos["model", "org/copy"].commit(files)
    refused("org/copy", out, "org/copy is not a known release .*--allow-unknown-weights", **strict)
    online.repos["model", "org/converted"] = Repo("model", private=False)
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    online.repos["model", "org/converted"].commit(made)
    refused("org/converted", out, "org/converted is a checkpoint of transformers already", **strict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "empty"))
    refused("org/lewm", out, "cannot be fetched .*the token", OSError, token="hf_wrong", **strict)
    online.corrupted.add("weights.pt")
    refused("org/lewm", out, "download is damaged", **strict)


def test_a_wrong_hash_is_refused(tmp_path, checkpoint):
    refused(checkpoint, tmp_path / "out", "SHA-256 .* none of the published", allow_unknown_weights=False)


def altered(state, how):
    key = "predictor.transformer.layers.0.attn.to_out.0.weight"
    query = "encoder.encoder.layer.3.attention.attention.query.weight"
    if how == "missing":
        del state[key]
    elif how == "left over":
        state["encoder.encoder.layer.12.layernorm_before.weight"] = torch.ones(192)
    elif how == "unknown":
        state["decoder.weight"] = torch.ones(3)
    elif how == "shape":
        state[key] = state[key][:, :7]
    elif how == "third missing":
        del state[query]
    elif how == "third shape":
        state[query] = state[query][:, :7]
    elif how == "both spellings":
        state |= new_spelling({query: state[query]})
    elif how == "type":
        state[key] = state[key].half()
    elif how == "nan":
        state[key] = torch.full_like(state[key], float("nan"))
    elif how == "batch norm":
        del state["projector.net.1.num_batches_tracked"]
    return state


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("missing", "1 missing such as predictor.layers.0.attention.out.weight"),
        ("left over", "1 left over such as encoder.layers.12.norm1.weight"),
        ("unknown", "'decoder.weight' does not belong"),
        ("shape", r"1 of another shape such as .*\(192, 7\), where the config asks for \(192, 32\)"),
        ("third missing", "only the k, v part"),
        ("third shape", "three must be alike"),
        ("both spellings", "same tensor in two spellings"),
        ("type", "float16.*float32"),
        ("nan", "NaN"),
        ("batch norm", "1 missing such as projector.batch_norm.num_batches_tracked"),
    ],
)
def test_tensors_that_are_not_those_of_the_config_are_refused(tmp_path, checkpoint, published, how, match):
    torch.save(altered(dict(published.state_dict()), how), checkpoint / "weights.pt")
    refused(checkpoint, tmp_path / "out", match)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("_target_",), "stable_worldmodel.wm.pldm.PLDM", "PLDM.*another architecture"),
        (("encoder", "size"), "gigantic", "gigantic"),
        (("encoder", "size"), "small", "size small is 384, but projector.input_dim is 192"),
        (("encoder", "pretrained"), True, "pretrained=True"),
        (("encoder", "use_mask_token"), True, "use_mask_token=True"),
        (("encoder", "colour"), "red", "unknown fields 'colour'"),
        (("encoder", "patch_size"), "14", "patch_size='14'.* type int"),
        (("encoder", "patch_size"), 15, "not a multiple of patch_size=15"),
        (("predictor", "hidden_dim"), 256, "predictor.input_dim is 192, but predictor.hidden_dim is 256"),
        (("predictor", "num_frames"), None, "num_frames=None"),
        (("predictor", "depth"), 2, "13 missing such as predictor.layers.1"),
        (("predictor", "emb_dropout"), 0.1, "emb_dropout=0.1"),
        (("history_size",), 1, "num_frames is 3, but history_size is 1"),
        (("action_encoder", "input_dim"), 12, "input_dim=12 .* frameskip=5"),
        (("action_encoder", "input_dim"), 25, r"\(10, 10\), where the config asks for \(10, 25\)"),
        (("projector", "norm_fn", "_target_"), "torch.nn.LayerNorm", "LayerNorm"),
        (("pred_proj", "hidden_dim"), 96, "projector.hidden_dim is 64, but pred_proj.hidden_dim is 96"),
        (("decoder",), {}, "unknown fields 'decoder'"),
        (("predictor",), None, "predictor of the original config is None"),
    ],
)  # fmt: skip
def test_configs_that_are_unknown_or_contradictory_are_refused(tmp_path, checkpoint, config, path, value, match):
    changed = copy.deepcopy(config)
    part = changed
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    (checkpoint / "config.json").write_text(json.dumps(changed))
    refused(checkpoint, tmp_path / "out", match)


def test_missing_and_ambiguous_files_are_named(tmp_path, checkpoint):
    out = tmp_path / "out"
    (checkpoint / "config.json").write_text("{")
    refused(checkpoint, out, "config.json is not valid JSON")
    (checkpoint / "config.json").unlink()
    refused(checkpoint, out, "has no config.json", FileNotFoundError)
    refused(checkpoint / "weights.pt", out, "no config.json beside", FileNotFoundError)
    (checkpoint / "weights.pt").rename(checkpoint / "weights_epoch_1.pt")
    (checkpoint / "weights_epoch_2.pt").touch()
    refused(checkpoint, out, r"several weights files \(weights_epoch_1.pt, weights_epoch_2.pt\)")
    for path in checkpoint.iterdir():
        path.unlink()
    refused(checkpoint, out, "holds no weights file", FileNotFoundError)
    refused("no such folder", out, "there is no checkpoint", FileNotFoundError)
    refused("org/unknown", out, "cannot be fetched .*releases: .*lewm-pusht", OSError, allow_unknown_weights=False)
    refused("quentinll/lewm-pusht", out, "config.json of quentinll/lewm-pusht at revision 22b330c", OSError)


def test_data_sets_that_do_not_fit_are_refused(tmp_path, checkpoint):
    out = tmp_path / "out"
    refused(checkpoint, out, "no data set", FileNotFoundError, dataset=tmp_path / "nothing")
    refused(checkpoint, out, "no data/", FileNotFoundError, dataset=checkpoint)
    wide = episodes(tmp_path / "cube", actions_with_gaps(dims=5))
    refused(checkpoint, out, "cube has 5 action dimensions.*blocks of 10 = frameskip 5 x 2", dataset=wide)
    empty = episodes(tmp_path / "empty", np.full((4, 2), np.nan, dtype=np.float32))
    refused(checkpoint, out, "no action to measure", dataset=empty)
    infinite = episodes(tmp_path / "infinite", np.full((4, 2), np.inf, dtype=np.float32))
    refused(checkpoint, out, "infinite", dataset=infinite)
    archive = tmp_path / "expert.h5.zst"
    archive.touch()
    refused(checkpoint, out, "unpack", dataset=archive)
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF")
    refused(checkpoint, out, "cut.h5 is damaged", dataset=tmp_path / "cut.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pixels"] = np.zeros(3)
    refused(checkpoint, out, "no column 'action'.*pixels", dataset=tmp_path / "other.h5")


def test_a_folder_in_use_and_a_converted_one_are_refused(tmp_path, checkpoint):
    out = tmp_path / "out"
    convert(checkpoint, out=out, allow_unknown_weights=True)
    before = {path: path.read_bytes() for path in out.iterdir()}
    refused(checkpoint, out, "exists already")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    for source in (out, out / "model.safetensors"):  # before other advice, which would end here
        for known in (True, False):
            refused(source, tmp_path / "again", "already .model_type='lewm'.* load it", allow_unknown_weights=known)
