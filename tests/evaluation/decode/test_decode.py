import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel
from lewm_hf.action_blocks import to_blocks
from lewm_hf.configuration_lewm_decoder import LeWMDecoderConfig
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.evaluation.common.embeddings import sample_stretches
from lewm_hf.evaluation.common.inputs import open_decoder
from lewm_hf.evaluation.common.provenance import latents_fingerprint, model_fingerprint
from lewm_hf.evaluation.decode.report import format_decoding
from lewm_hf.evaluation.decode.run import decode
from lewm_hf.measures.pixels import pixel_metrics
from lewm_hf.modeling_lewm_decoder import LeWMDecoder
from lewm_hf.training.decoder_arguments import parse_decoder_recipe

SIZES = {"embed_dim": 16, "image_size": 28, "patch_size": 7, "hidden_size": 24, "layers": 2, "heads": 3, "mlp_size": 32}
SMALL = {"strips": 2, "steps": 10, "stretches": 12}


@pytest.fixture
def config():
    return LeWMDecoderConfig(**SIZES, latent_tokens=5)


@pytest.fixture
def decoder(config):
    """Random weights everywhere, the zeroed ones too."""
    torch.manual_seed(0)
    decoder = LeWMDecoder(config)
    with torch.no_grad():
        decoder.pixels.weight.normal_(std=0.05)
        decoder.background.pixels.uniform_()
    return decoder.eval()


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


def test_the_picture_is_put_together_patch_by_patch(decoder, config):
    """The whole decoder once more, one patch at a time, from the same weights."""
    z = torch.randn(2, 16)
    pixels = decoder(z).pixels
    for n in range(2):
        tokens = decoder.latent_norm(decoder.latent(z[n]).view(5, 24))
        for patch in range(16):
            hidden = decoder.queries.weight[0, patch]
            for layer in decoder.layers:
                query, value = layer.query(layer.norm1(hidden)), layer.key_value(tokens)
                heads = []
                for head in range(3):
                    part = slice(8 * head, 8 * head + 8)
                    keys, values = value[:, :24][:, part], value[:, 24:][:, part]
                    weights = torch.softmax(keys @ query[part] / math.sqrt(8), 0)
                    heads.append(weights @ values)
                hidden = hidden + layer.out(torch.cat(heads))
                hidden = hidden + layer.fc2(nn.functional.gelu(layer.fc1(layer.norm2(hidden))))
            painted = decoder.pixels(decoder.norm(hidden)).view(3, 7, 7)
            rows, columns = slice(patch // 4 * 7, patch // 4 * 7 + 7), slice(patch % 4 * 7, patch % 4 * 7 + 7)
            expected = painted + decoder.background.pixels[:, rows, columns]
            torch.testing.assert_close(pixels[n, :, rows, columns], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_leading_dimensions_are_kept(decoder, leading):
    z = torch.randn(*leading, 16)
    output = decoder(z, labels=torch.rand(*leading, 3, 28, 28))
    assert output.pixels.shape == (*leading, 3, 28, 28)
    torch.testing.assert_close(output.pixels.reshape(-1, 3, 28, 28), decoder(z.reshape(-1, 16)).pixels)
    pictures = decoder.pictures(z)
    assert pictures.shape == (*leading, 28, 28, 3) and pictures.dtype == torch.uint8
    expected = (output.pixels.movedim(-3, -1).detach() * 255).round().clamp(0, 255)
    assert torch.equal(pictures, expected.to(torch.uint8))


def test_it_starts_as_its_background_and_learns_to_leave_it(config):
    torch.manual_seed(1)
    decoder = LeWMDecoder(config)
    z, labels = torch.randn(12, 16), torch.rand(12, 3, 28, 28)
    assert torch.equal(decoder(z).pixels, torch.full((12, 3, 28, 28), 0.5))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = decoder(z, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(float((labels - 0.5).square().mean()))
    best_background = float((labels - labels.mean(0)).square().mean())
    assert losses[-1] < 0.7 * best_background


def test_save_and_load_are_bit_equal_and_strict(decoder, tmp_path):
    decoder.save_pretrained(tmp_path)
    again = LeWMDecoder.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "lewm_decoder"
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("queries.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"queries\.weight"):
        LeWMDecoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"patch_size": 8}, "image_size=28"), ({"heads": 5}, "hidden_size=24"), ({"layers": 0}, "layers=0")],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(Exception, match=message):
        LeWMDecoderConfig(**SIZES | wrong)


def test_other_shapes_are_refused(decoder):
    with pytest.raises(ValueError, match="belongs to another world model"):
        decoder(torch.randn(2, 8))
    with pytest.raises(ValueError, match="labels of shape"):
        decoder(torch.randn(2, 16), labels=torch.rand(2, 3, 14, 14))


def test_released_sizes():
    config = LeWMDecoderConfig()
    assert config.num_patches == 196
    with torch.device("meta"):
        decoder = LeWMDecoder(config)
    assert decoder(torch.empty(2, 192, device="meta")).pixels.shape == (2, 3, 224, 224)


def test_pixel_metrics():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (3, 4, 8, 8, 3), dtype=np.uint8)
    other = rng.integers(0, 256, real.shape, dtype=np.uint8)
    other[0, 0] = real[0, 0]
    found = pixel_metrics(other, real)
    for index in np.ndindex(3, 4):
        difference = [(int(a) - int(b)) / 255 for a, b in zip(other[index].ravel(), real[index].ravel(), strict=True)]
        mse = sum(d * d for d in difference) / 192
        assert found["mse"][index] == pytest.approx(mse)
        assert found["mae"][index] == pytest.approx(sum(map(abs, difference)) / 192)
        assert found["psnr"][index] == pytest.approx(10 * math.log10(1 / mse) if mse else 100)
    with pytest.raises(ValueError, match="cannot be compared"):
        pixel_metrics(real.astype(float), real)


def test_strips_show_what_the_model_imagines(episodes, tiny_model, decoder, processor, tmp_path):
    decoding = decode(tiny_model, decoder, episodes, processor=processor, out=tmp_path, **SMALL)
    strips = decoding.strips
    assert strips.steps == (0, 5, 10)
    chosen = sample_stretches(episodes, 12, frames=5, frameskip=5, seed=0)
    for number, index in enumerate((0, 11)):
        frames = episodes.frames(chosen.rows[index])
        pixels = processor(frames)["pixel_values"]
        with torch.no_grad():
            z = tiny_model.encode(pixels[None])
            blocks = to_blocks(torch.from_numpy(chosen.actions[index]), tiny_model.config)[None]
            known = z[:, :3]
            for step in range(2):
                window = slice(step, step + 3)
                known = torch.cat([known, tiny_model.predict(known[:, window], blocks[:, window])[:, -1:]], 1)
        for pictures, latents in ((strips.decoded, z[:, 2:]), (strips.imagined, known[:, 2:])):
            difference = pictures[number].astype(int) - decoder.pictures(latents)[0].numpy()
            assert np.abs(difference).max() <= 1  # a rounding of the last bit may turn a pixel
        assert np.abs(strips.real[number].mean((1, 2)) - frames[2:].mean((1, 2))).max() < 1
    assert len(decoding.files) == 2
    with Image.open(decoding.files[0]) as picture:
        assert picture.width > 3 * 112
    assert (tmp_path / "decode.png").exists()


def test_a_second_run_leaves_nothing_of_the_first(episodes, tiny_model, decoder, processor, tmp_path):
    for strips in (3, 1):
        found = decode(tiny_model, decoder, episodes, processor=processor, out=tmp_path, **SMALL | {"strips": strips})
    assert sorted((tmp_path / "strips").iterdir()) == found.files and len(found.files) == 1


def test_errors_follow_from_the_pictures_and_repeat_themselves(episodes, tiny_model, decoder, processor, tmp_path):
    every = SMALL | {"strips": 12}
    one, two = (decode(tiny_model, decoder, episodes, processor=processor, **every) for _ in range(2))
    assert one.result["errors_hash"] == two.result["errors_hash"]
    errors, strips = one.result["errors"], one.strips
    for way, pictures in (("decoded", strips.decoded), ("imagined", strips.imagined), ("copy", strips.real[:, :1])):
        squares = np.square((pictures.astype(float) - strips.real) / 255).mean((0, 2, 3, 4))
        np.testing.assert_allclose(errors[way]["mse"], squares, rtol=1e-9)
    assert errors["copy"]["mse"][0] == 0 and errors["copy"]["psnr"][0] == 100
    assert errors["imagined"]["mse"][0] == errors["decoded"]["mse"][0]
    assert errors["background"]["mse_low"][1] <= errors["background"]["mse"][1] <= errors["background"]["mse_high"][1]
    text = format_decoding(one.result)
    assert f"{errors['imagined']['mse'][2]:.5f}" in text and "T = 10" in text


def test_what_does_not_belong_together_is_refused(
    episodes, tiny_model, decoder, processor, tmp_path, monkeypatch, config
):
    monkeypatch.setattr(type(episodes), "frames", lambda *_: pytest.fail("work has started"))

    def refused(decoder=decoder, **kwargs):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            decode(tiny_model, decoder, episodes, processor=processor, out=tmp_path / "never", **SMALL | kwargs)
        assert "\n" not in str(error.value) and not (tmp_path / "never").exists()
        return str(error.value)

    assert "embeddings of size 8" in refused(LeWMDecoder(LeWMDecoderConfig(**SIZES | {"embed_dim": 8})).eval())
    other = LeWMDecoder(LeWMDecoderConfig(**SIZES, world_model_fingerprint="0" * 64)).eval()
    assert "other weights" in refused(other)
    other.config.world_model_fingerprint = model_fingerprint(tiny_model)
    assert "longest has" in refused(other, steps=500)
    assert "less than one action block" in refused(steps=4)
    assert "holds no config.json" in refused(tmp_path)
    assert "neither a folder nor a Hub id" in refused(str(tmp_path / "nowhere"))


def test_a_decoder_serves_the_same_latents_whatever_heads_stand_beside_them(tiny_model):
    chosen = tiny_model.config.to_dict() | {"actor": True, "inverse_weight": 0.1}
    with_heads = LeWMModel(LeWMConfig(**chosen)).eval()
    with_heads.load_state_dict(with_heads.state_dict() | tiny_model.state_dict())
    assert model_fingerprint(with_heads) != model_fingerprint(tiny_model)
    assert latents_fingerprint(with_heads) == latents_fingerprint(tiny_model) == model_fingerprint(tiny_model)
    decoder = LeWMDecoder(LeWMDecoderConfig(**SIZES, world_model_fingerprint=latents_fingerprint(tiny_model))).eval()
    agent = load_agent(with_heads, processor=LeWMImageProcessor(size=28))
    assert open_decoder(decoder, agent) is decoder
    with torch.no_grad():  # a weight that latents do depend on
        with_heads.projector.fc2.bias += 1e-3
    with pytest.raises(ValueError, match="other weights"):
        open_decoder(decoder, agent)


def test_a_recipe_is_read_and_checked(tmp_path):
    path = tmp_path / "decoder.yaml"
    path.write_text("model: M\ndataset: D\nlearning_rate: 3e-4\nmax_steps: 7\n")
    recipe = parse_decoder_recipe([str(path), "--output_dir", "O", "--max_steps=9"])
    assert (recipe.model, recipe.learning_rate, recipe.max_steps, recipe.latent_tokens) == ("M", 3e-4, 9, 8)
    for extra, message in (
        (["--layer", "3"], "closest known key is 'layers'"),
        (["--max_steps", "0"], "max_steps=0"),
        (["--max_steps", "many"], "command line is wrong"),
        (["stray"], "cannot place 'stray'"),
        (["--output_dir", ""], "no output_dir"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            parse_decoder_recipe([str(path), "--output_dir", "O", *extra])
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="no recipe"):
        parse_decoder_recipe(["none.yaml"])
    path.write_text("model: [")
    with pytest.raises(ValueError, match="line"):
        parse_decoder_recipe([str(path)])


@pytest.mark.parametrize("name", ["decoder", "decoder-mini"])
def test_shipped_recipes_are_valid(name, tiny_config):
    given = ["--model", "M", "--dataset", "D", "--output_dir", "O"]
    recipe = parse_decoder_recipe([f"training/recipes/{name}.yaml", *given])

    def world_model(**sizes):
        return LeWMModel(LeWMConfig(**(tiny_config.to_dict() | sizes))).eval()

    assert recipe.config(world_model(image_size=64, patch_size=16), "f" * 64).num_patches == 16
    with pytest.raises(ValueError, match="describes no decoder: image_size=60"):
        recipe.config(world_model(image_size=60, patch_size=12), "f" * 64)
