import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

import lewm_hf
from lewm_hf import LeWMConfig, LeWMModel
from lewm_hf.training.arguments import TrainingRecipe, parse_recipe, recipe_values
from lewm_hf.training.decoder_arguments import parse_decoder_recipe

RECIPES = Path(lewm_hf.__file__).parent / "training" / "recipes"


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "dataset: episodes\noutput_dir: run\nmax_steps: 7\nlearning_rate: 5e-5  # a string to YAML\n"
        "stop_epoch: null\ncompile: true\nimage_size: 64\npatch_size: 16\nsigreg_weight: 0.05\n"
    )
    return str(path)


def test_file_and_command_line_fill_recipe_and_model(recipe_file):
    recipe, config = parse_recipe([recipe_file, "--max_steps", "9", "--batch-size=32", "--embed_dim", "32"])
    assert (recipe.learning_rate, recipe.stop_epoch, recipe.compile) == (5e-5, None, True)
    assert (recipe.max_steps, recipe.batch_size) == (9, 32)
    assert (config.image_size, config.sigreg_weight, config.embed_dim) == (64, 0.05, 32)
    assert parse_recipe([recipe_file, "--compile", "false"])[0].compile is False


def test_defaults_are_the_released_recipe_and_model():
    recipe, config = parse_recipe(["--dataset", "d", "--output_dir", "o"])
    assert config.to_dict() == LeWMConfig().to_dict()
    assert (recipe.learning_rate, recipe.weight_decay, recipe.batch_size) == (5e-5, 1e-3, 128)
    assert (recipe.max_grad_norm, recipe.warmup_fraction, recipe.seed, recipe.precision) == (1.0, 0.01, 3072, "auto")


def test_values_written_as_a_recipe_are_read_back_equal(recipe_file, tmp_path):
    recipe, config = parse_recipe([recipe_file, "--predictor_dropout", "0"])
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(recipe_values(recipe, config)))
    recipe_again, config_again = parse_recipe([str(again)])
    assert recipe_again == recipe
    assert config_again.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lerning_rate", "1"], "unknown recipe key 'lerning_rate' .* closest known key is 'learning_rate'"),
        (["--patchsize=16"], "'patchsize' .* 'patch_size'"),
        (["--batch_size", "many"], "batch_size.*'many'"),
        (["--batch_size", "1"], "batch_size=1 must be at least 2"),
        (["--learning_rate", "0"], "learning_rate=0.0 must be positive"),
        (["--learning_rate", "nan"], "learning_rate=nan must be positive"),
        (["--learning_rate", "inf"], "learning_rate=inf must be finite"),
        (["--freeze", "encoder", "--freeze=projector"], "--freeze is given 2 times: give it once, and all of its"),
        (["--schedule_epochs", "2"], "schedule_epochs=2 has no effect beside max_steps=7.*--max_steps null"),
        (["--max_steps=3", "--stop-epoch", "2"], "stop_epoch=2 has no effect beside max_steps=3"),
        (["--seed", "null"], "the command line is wrong.*'null'"),
        (["--no_compile"], "unknown recipe key 'no_compile' in the command line: .* 'compile'"),
        (["--encoder_kwargs", "{maps: 8}"], "encoder_kwargs={'maps': 8} do not fit encoder='vit': it takes none"),
        (["--encoder=resnet18", "--encoder_kwargs", "{maps: 8}"], "encoder_kwargs=.* do not fit encoder='resnet18'"),
        (["--warmup_fraction", "1"], "warmup_fraction=1.0"),
        (["--precision", "fp8"], "precision.*fp8"),
        (["--tracker", "paper"], "tracker.*paper"),
        (["--patch_size", "15"], "image_size=64 is not a multiple of patch_size=15"),
        (["--history_size", "0"], "history_size=0"),
        (["stray"], "stray"),
        (["--dataset", ""], "no dataset"),
        (["--streaming"], "streaming=True is not supported: .* downloaded once, to where HF_HOME says"),
    ],
)
def test_wrong_values_are_refused_in_one_line(recipe_file, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_recipe([recipe_file, *arguments])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sigreg_wieght: 1\n", "unknown recipe key 'sigreg_wieght' in .*recipe.yaml.* 'sigreg_weight'"),
        ("action_mean: [0, 0]\n", "unknown recipe key 'action_mean'"),
        ("- 1\n- 2\n", "key: value"),
        ("", "key: value"),
        ("a: [1\n", "line 2"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        parse_recipe([str(path)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_steps: 4.5", "the recipe .*mine.yaml is wrong: argument --max_steps.*'4.5'"),
        ("batch_size: [32, 64]", "cannot place '64' of the recipe .*mine.yaml"),
        ("seed: 1\nseed: 2", "mine.yaml, line 4, is not valid YAML .*'seed' stands twice.*: write each key once"),
    ],
)
def test_what_is_wrong_in_a_file_is_not_laid_to_the_command_line(tmp_path, line, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"dataset: episodes\noutput_dir: run\n{line}\n")
    with pytest.raises(ValueError, match=message) as raised:
        parse_recipe([str(path)])
    assert "\n" not in str(raised.value)


def test_a_recipe_that_does_not_come_first_is_said_to_be_in_the_wrong_place(recipe_file):
    with pytest.raises(ValueError, match="cannot place '.*recipe.yaml' of the command line: give .recipe.yaml"):
        parse_recipe(["--seed", "1", recipe_file])


def test_the_command_line_empties_what_a_recipe_says(recipe_file, tmp_path):
    """A length in epochs instead of the recipe's steps, no evaluation on the way, no frozen part, another encoder."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: recipe.yaml\neval_every: 5\nfreeze: [encoder]\nencoder: spatial_softmax\nencoder_kwargs: {maps: 8}\n"
    )
    recipe, config = parse_recipe([
        str(path), "--max_steps", "null", "--schedule-epochs", "2", "--eval_every=None", "--freeze", "null",
        "--encoder", "vit", "--encoder_kwargs", "null",
    ])  # fmt: skip
    assert (recipe.max_steps, recipe.schedule_epochs, recipe.eval_every, recipe.freeze) == (None, 2.0, None, [])
    assert (config.encoder, config.encoder_kwargs) == ("vit", None)
    assert parse_recipe([str(path), "--max_steps", "null", "--max_steps", "3"])[0].max_steps == 3


def test_of_a_key_given_twice_the_last_one_counts():
    """Also of the one that decides which other keys there are."""
    recipe, config = parse_recipe([
        "--dataset", "d", "--output_dir", "o", "--model_type", "lewm", "--seed", "1", "--seed", "2",
        "--model_type=goal_imitation",
    ])  # fmt: skip
    assert (recipe.seed, config.model_type, recipe.model_type) == (2, "goal_imitation", "goal_imitation")


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        parse_recipe(["nowhere.yaml"])


def test_every_field_is_documented(capsys):
    assert all(field.metadata["help"] for field in dataclasses.fields(TrainingRecipe))
    with pytest.raises(SystemExit) as stop:
        parse_recipe(["--help"])
    text = capsys.readouterr().out
    assert not stop.value.code and "None)" not in text and "(default: 128)" in text


def help_of(parse, *arguments, capsys) -> str:
    with pytest.raises(SystemExit):
        parse([*arguments, "--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("lewm", {"sigreg_weight": "lambda, the weight of SIGReg in the loss.", "predictor_mlp_size": "the causal"}),
        ("pldm", {"sigreg_weight": "PLDM has none; above 0", "inverse_hidden_size": "weight and width of the inverse"}),
        ("dino_wm", {"backbone_size": "side that frames are resized to before the backbone sees them; default"}),
        ("goal_imitation", {"actor_layers": "width and hidden layers of the actor.", "backbone": "`None` trains"}),
        ("lewm_with_decoder", {"decoder_weight": "of the pixel loss, on normalized pixels."}),
    ],
)
def test_help_says_what_every_field_of_the_model_means(model_type, said, capsys):
    text = help_of(parse_recipe, "--model_type", model_type, capsys=capsys)
    assert "field of" not in text
    for name, meaning in said.items():
        assert f"{name.upper()} {meaning}" in text


def test_help_names_the_recipes_that_can_be_trained(capsys):
    texts = [help_of(parse, capsys=capsys) for parse in (parse_recipe, parse_decoder_recipe)]
    assert all("usage: ... [RECIPE] [--key value ...]" in text for text in texts)
    listed = [set(text.split("ships with the package: ")[1].split(". ")[0].split(", ")) for text in texts]
    for path in RECIPES.glob("*.yaml"):
        for parse, names in zip((parse_recipe, parse_decoder_recipe), listed, strict=True):
            given = [path.stem, "--dataset", "d", "--output_dir", "o"]
            try:
                parse([*given, *(["--model", "m"] if parse is parse_decoder_recipe else [])])
            except ValueError as error:
                assert "unknown recipe key" in str(error) and path.stem not in names
            else:
                assert path.stem in names


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("tworoom", 18_034_478), ("pusht", 18_034_478), ("reacher", 18_034_478), ("cube", 18_034_628)],
)
def test_full_recipes_are_the_released_ones(name, parameters):
    recipe, config = parse_recipe([str(RECIPES / f"{name}.yaml"), "--output_dir", "run"])
    with torch.device("meta"):
        assert sum(p.numel() for p in LeWMModel(config).parameters()) == parameters
    assert (recipe.schedule_epochs, recipe.stop_epoch, recipe.max_steps) == (100, 10, None)
    released = TrainingRecipe(dataset="d", output_dir="o")
    for key in ("batch_size", "learning_rate", "warmup_fraction", "weight_decay", "max_grad_norm", "seed", "precision"):
        assert getattr(recipe, key) == getattr(released, key), key
    assert config.sigreg_weight == 0.09


def test_every_recipe_file_is_readable():
    files = sorted(path for path in RECIPES.glob("*.yaml") if not path.name.startswith("decoder"))
    assert "tworoom-mini" in {path.stem for path in files}
    for path in files:
        parse_recipe([str(path), "--output_dir", "run"])


def test_recipes_are_found_by_path_by_file_name_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = parse_recipe([str(RECIPES / "tworoom.yaml"), "--output_dir", "run"])
    for name in ("tworoom", "tworoom.yaml", "training/recipes/tworoom.yaml"):
        recipe, config = parse_recipe([name, "--output_dir", "run"])
        assert recipe == expected[0] and config.to_dict() == expected[1].to_dict()
    (tmp_path / "tworoom.yaml").write_text("dataset: mine\nmax_steps: 3\n")  # a file of one's own comes first
    assert parse_recipe(["tworoom.yaml", "--output_dir", "run"])[0].dataset == "mine"
    with pytest.raises(FileNotFoundError, match="no recipe towroom: .* by name .*tworoom-mini"):
        parse_recipe(["towroom"])


def test_a_recipe_says_what_differs_from_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("dataset: d\noutput_dir: o\nmax_steps: 3\nseed: 1\n")
    (tmp_path / "middle.yaml").write_text("base: base.yaml\nseed: 2\nbatch_size: 4\n")
    (tmp_path / "mine.yaml").write_text("base: middle.yaml\nbatch_size: 8\n")
    recipe, _ = parse_recipe([str(tmp_path / "mine.yaml"), "--max_steps", "5"])
    assert (recipe.dataset, recipe.max_steps, recipe.seed, recipe.batch_size) == ("d", 5, 2, 8)
    (tmp_path / "longer.yaml").write_text("base: mine.yaml\nschedule_epochs: 10\nstop_epoch: 2\n")
    with pytest.raises(ValueError) as raised:
        parse_recipe([str(tmp_path / "longer.yaml")])
    said = f"schedule_epochs=10 of {tmp_path}/longer.yaml has no effect beside max_steps=3, which replaces it: "
    assert str(raised.value) == said + "omit it, or add `max_steps: null`"
    assert parse_recipe([str(tmp_path / "longer.yaml"), "--max_steps", "5"])[0].max_steps == 5
    (tmp_path / "longer.yaml").write_text("base: mine.yaml\nschedule_epochs: 10\nmax_steps: null\n")
    recipe, _ = parse_recipe([str(tmp_path / "longer.yaml")])
    assert (recipe.max_steps, recipe.schedule_epochs) == (None, 10)
    (tmp_path / "both.yaml").write_text("base: longer.yaml\nmax_steps: 4\n")  # the later one replaces, as it says
    assert parse_recipe([str(tmp_path / "both.yaml")])[0].max_steps == 4
    (tmp_path / "base.yaml").write_text("base: mine.yaml\n")
    with pytest.raises(ValueError, match="mine.yaml is its own base"):
        parse_recipe([str(tmp_path / "mine.yaml")])


def test_a_recipe_s_frame_cache_can_be_taken_back(recipe_file):
    assert parse_recipe([recipe_file, "--frame_cache", "ram"])[0].frame_cache == "ram"
    assert parse_recipe([recipe_file, "--frame_cache", "none"])[0].frame_cache is None
    with pytest.raises(ValueError, match="frame_cache='disk' is unknown: use one of none, ram, memmap"):
        parse_recipe([recipe_file, "--frame_cache", "disk"])
