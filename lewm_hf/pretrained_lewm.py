"""What the models of this package share: how checkpoints are loaded, what inputs they refuse, and initial weights."""

import math
import os
from importlib import import_module
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging

from .configuration_lewm import LeWMConfig
from .encoder_vit import LeWMVisionTransformer
from .predictor_lewm import LeWMModulation, LeWMPredictor
from .sigreg import SIGReg

logger = logging.get_logger(__name__)


class LeWMPreTrainedModel(PreTrainedModel):
    """Base of LeWM and of models made of its parts: strict loading, checks of inputs, initial weights."""

    config: LeWMConfig
    config_class = LeWMConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["LeWMPredictorLayer"]  # and the encoder's, see LeWMModel
    _keep_in_fp32_modules_strict = ["batch_norm"]
    _supports_sdpa = True
    _supports_flash_attn = True
    # Transformers' flex attention ignores `is_causal` and refuses dropout; over three tokens it has nothing to gain.
    _supports_flex_attn = False
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Like `PreTrainedModel.from_pretrained`, but safetensors only and strict.

        Raises:
            ValueError: where the weights are damaged, or the checkpoint and the model do not hold exactly the same
                tensors; transformers would go on with random weights.
        """
        kwargs.setdefault("use_safetensors", True)
        # Transformers would raise a report of many lines; they are told below.
        reshape = kwargs.pop("ignore_mismatched_sizes", False)
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except SafetensorError as error:
            raise ValueError(
                f"the weights of {pretrained_model_name_or_path} are damaged or cut short ({error}): save or copy them "
                "again, or load with force_download=True"
            ) from error
        wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
        if reshape:
            wrong.pop("mismatched_keys", None)
        if wrong:
            details = "; ".join(f"{len(keys)} {kind} such as {keys[0]}" for kind, keys in wrong.items())
            raise ValueError(
                f"{pretrained_model_name_or_path} does not hold the tensors of its config ({details}): the files "
                "belong to different checkpoints or are damaged, fetch them again or convert with `lewm convert`"
            )
        return (model, info) if output_loading_info else model

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """Like `PreTrainedModel.save_pretrained`; code that the checkpoint brought along goes along.

        Its config names that code, without which nobody could load what is saved where this package is not installed.
        """
        ours = type(self).__module__.partition(".")[0] == __name__.partition(".")[0]
        # Transformers copies the code of a model that was itself loaded from such a copy.
        if is_main_process and getattr(self.config, "auto_map", None) and ours and self._auto_class is None:
            # By name: transformers follows import statements, and would want a copy of what copies too.
            import_module(".flat_code", __package__).write_code(save_directory, self.config.model_type)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "peft_config" and self.training:  # adapters have come to a model that trains already
            self._keep_running_statistics()

    def train(self, mode: bool = True) -> Self:
        """Like `nn.Module.train`, and around PEFT's adapters like what they leave as it is.

        An adapter's file holds nothing of the model around it, and no running statistics that training has moved there:
        BatchNorms that are not among its `modules_to_save` are in training what they are in evaluation, whether the
        model trained already when the adapters came or not.
        """
        super().train(mode)
        if mode and "peft_config" in vars(self):
            self._keep_running_statistics()
        return self

    def _keep_running_statistics(self) -> None:
        """Puts BatchNorms into evaluation mode whose running statistics no adapter's file would hold."""
        norms = [(name, module) for name, module in self.named_modules() if isinstance(module, _BatchNorm)]
        left = [(name, norm) for name, norm in norms if not {*name.split(".")} & {"modules_to_save", "original_module"}]
        for _, norm in left:
            norm.eval()
        if left:
            logger.warning_once(
                f"{left[0][0]} and every other BatchNorm keep their running statistics while adapters train, whose "
                "file would not hold them: modules_to_save=['batch_norm'] in the adapters' config trains and saves them"
            )

    def check_frames(self, pixel_values: Tensor) -> None:
        """Refuses what is no `(B, T, 3, H, W)` of the config's channels and size.

        Raises:
            ValueError: on another rank, channel count or size.
        """
        size = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if pixel_values.dim() != 5 or pixel_values.shape[2:] != size:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)} do not fit: expected (batch, time, "
                f"{', '.join(map(str, size))}); LeWMImageProcessor of this checkpoint makes that"
            )

    def check_blocks(self, actions: Tensor) -> None:
        """Refuses action blocks `(..., A)` of another width than the config's.

        Raises:
            ValueError: where A is not frameskip * action_dim.
        """
        if actions.shape[-1] != self.config.action_block_size:
            raise ValueError(
                f"action blocks are {actions.shape[-1]} wide, but the model was made for frameskip x action_dim = "
                f"{self.config.frameskip} x {self.config.action_dim} = {self.config.action_block_size}"
            )

    def check_rollout(
        self, context: Tensor, candidates: Tensor, executed: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments of `rollout` -> what of context and executed blocks the first window sees.

        Raises:
            ValueError: for blocks of another width than the config's, candidates that are not several plans of each
                context, or other numbers of frames and blocks.
        """
        self.check_blocks(candidates)
        if candidates.dim() != 4 or len(candidates) != len(context):
            raise ValueError(
                f"candidates of shape {tuple(candidates.shape)} do not fit {len(context)} contexts: expected (batch, "
                f"plans, time, {self.config.action_block_size}), also of a single plan"
            )
        frames = context.shape[1]
        if (0 if executed is None else executed.shape[1]) != frames - 1:
            raise ValueError(
                f"{frames} context frames need {frames - 1} executed action blocks, got "
                f"{0 if executed is None else executed.shape[1]}: pass executed=(batch, {frames - 1}, "
                f"{self.config.action_block_size})"
            )
        seen = min(frames, self.config.history_size)
        return context[:, -seen:], None if executed is None or seen == 1 else executed[:, 1 - seen :]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Children come before their parents, and every function of `init` skips what a checkpoint has filled.
        super()._init_weights(module)
        if isinstance(module, LeWMModulation):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):  # torch's default, as in the released code
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = 1 / math.sqrt(module.in_features)
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, LeWMVisionTransformer):
            std = self.config.initializer_range
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.Conv2d):
                    init.trunc_normal_(part.weight, std=std)
                    init.zeros_(part.bias)
            init.trunc_normal_(module.cls_token, std=std)
            init.trunc_normal_(module.position_embedding, std=std)
        elif isinstance(module, LeWMPredictor):
            init.normal_(module.position_embedding)  # std 1, not 0.02
        elif isinstance(module, SIGReg):
            module.reset_buffers()
        elif hasattr(module, "initialize_weights"):  # an encoder that knows its own
            module.initialize_weights()
