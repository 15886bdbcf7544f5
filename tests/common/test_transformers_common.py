"""What transformers tests on every model of its own, on ours: `ModelTesterMixin` and `ConfigTester` of the release
that is installed. `tests/common/fetch.py` brings them.
"""

import sys
import types
import unittest

import pytest
import torch

from lewm_hf import LeWMConfig, LeWMDecoder, LeWMDecoderConfig, LeWMModel

from .fetch import PACKAGE, common_tests

if not common_tests().exists():
    pytest.skip("transformers' common tests are missing: run `make test` once", allow_module_level=True)

# The source distribution leaves these out. Text generation is none of our business; exports have tests of their own.
for name, contents in {
    "exporters": {},
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation": {},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils": {},
    "utils.test_configuration_utils": {
        "config_common_kwargs": {
            "return_dict": False,
            "output_hidden_states": True,
            "dtype": "float16",
            "chunk_size_feed_forward": 5,
            "architectures": ["LeWMModel"],
            "id2label": {0: "label"},
            "label2id": {"label": 0},
            "problem_type": "regression",
        }  # fmt: skip
    },
}.items():
    module = types.ModuleType(f"{PACKAGE}.{name}")
    vars(module).update(contents)
    sys.modules[module.__name__] = module
sys.path.append(str(common_tests()))

from transformers_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor  # noqa: E402

SIZES = {
    "image_size": 28, "patch_size": 14, "encoder_hidden_size": 24, "encoder_layers": 2, "encoder_heads": 3,
    "encoder_mlp_size": 48, "embed_dim": 16, "projector_hidden_size": 32, "predictor_hidden_size": 24,
    "predictor_layers": 2, "predictor_heads": 2, "predictor_head_dim": 8, "predictor_mlp_size": 32,
    "action_mlp_size": 48, "sigreg_projections": 64,
}  # fmt: skip


class WorldModelTester:
    batch_size, frames = 13, 3
    num_hidden_layers, num_attention_heads, hidden_size, seq_length = 2, 3, 24, 5
    is_training = True

    def get_config(self):
        return LeWMConfig(**SIZES, attn_implementation="eager")  # which alone gives attention probabilities

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        pixels = floats_tensor([self.batch_size, self.frames, 3, 28, 28])
        return config, {"pixel_values": pixels, "actions": floats_tensor([self.batch_size, self.frames, 10])}


class CommonTests(ModelTesterMixin):
    """What holds for every model of this package."""

    def test_model_get_set_embeddings(self):
        """The original asks for an `nn.Embedding`, but nothing is looked up in a vocabulary here."""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            assert model.get_input_embeddings() in set(model.modules())
            replacement = torch.nn.Identity()
            model.set_input_embeddings(replacement)
            assert model.get_input_embeddings() is replacement
            assert model.get_output_embeddings() is None

    @unittest.skip("loading is strict: a checkpoint that lacks tensors is refused, never filled with random weights")
    def test_model_weights_reload_no_missing_tied_weights(self):
        pass


class TestWorldModel(CommonTests, unittest.TestCase):
    all_model_classes = (LeWMModel,)
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = WorldModelTester()
        self.config_tester = ConfigTester(self, config_class=LeWMConfig, has_text_modality=False, **SIZES)

    def test_config(self):
        self.config_tester.run_common_tests()

    @unittest.skip("attention probabilities that SDPA cannot give are refused, not left out")
    def test_eager_matches_sdpa_inference_24_fp32_pad_left_output_attentions(self):
        pass

    @unittest.skip("takes `action_std` for a scale of initialization; no class of ours is a classifier")
    def test_can_load_ignoring_mismatched_shapes(self):
        pass


DECODER_SIZES = {
    "embed_dim": 16, "image_size": 28, "patch_size": 7, "hidden_size": 24, "layers": 2, "heads": 3, "mlp_size": 32,
}  # fmt: skip


class DecoderTester:
    batch_size, num_hidden_layers, hidden_size, seq_length = 5, 2, 24, 16
    is_training = True

    def get_config(self):
        return LeWMDecoderConfig(**DECODER_SIZES)

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"embeddings": floats_tensor([self.batch_size, 16])}


class TestDecoder(CommonTests, unittest.TestCase):
    all_model_classes = (LeWMDecoder,)
    test_resize_embeddings = False
    has_attentions = False

    def setUp(self):
        self.model_tester = DecoderTester()
        self.config_tester = ConfigTester(
            self, config_class=LeWMDecoderConfig, has_text_modality=False, **DECODER_SIZES
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        labels = {"labels": torch.zeros(self.model_tester.batch_size, 3, 28, 28)} if return_labels else {}
        return super()._prepare_for_class(inputs_dict, model_class) | labels
