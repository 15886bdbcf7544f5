"""The released state-dict layout (303 tensors) -> the keys of `LeWMModel`.

Published files use the ViT names of transformers before 5.9; files written by newer versions use other names. Both are
accepted. Nothing is dropped and nothing is made up: a key without a rule is an error.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Old ViT spelling -> new ViT spelling, in this order: `output.dense` is a suffix of `attention.output.dense`.
_NEW_VIT = (
    (r"^encoder\.encoder\.layer\.(\d+)\.", r"encoder.layers.\1."),
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)

# Released layout (new ViT spelling) -> ours. Each key must match exactly one rule.
_RULES = (
    (r"encoder\.embeddings\.cls_token", "encoder.cls_token"),
    (r"encoder\.embeddings\.position_embeddings", "encoder.position_embedding"),
    (r"encoder\.embeddings\.patch_embeddings\.projection\.(\w+)", r"encoder.patch_embedding.\1"),
    (r"encoder\.layers\.(\d+)\.attention\.([qkv])_proj\.(\w+)", r"encoder.layers.\1.attention.qkv.\3:\2"),
    (r"encoder\.layers\.(\d+)\.attention\.o_proj\.(\w+)", r"encoder.layers.\1.attention.out.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.(fc[12])\.(\w+)", r"encoder.layers.\1.\2.\3"),
    (r"encoder\.layers\.(\d+)\.layernorm_before\.(\w+)", r"encoder.layers.\1.norm1.\2"),
    (r"encoder\.layers\.(\d+)\.layernorm_after\.(\w+)", r"encoder.layers.\1.norm2.\2"),
    (r"encoder\.layernorm\.(\w+)", r"encoder.norm.\1"),
    (r"predictor\.pos_embedding", "predictor.position_embedding"),
    (r"predictor\.transformer\.norm\.(\w+)", r"predictor.norm.\1"),
    (r"predictor\.transformer\.layers\.(\d+)\.attn\.norm\.(\w+)", r"predictor.layers.\1.attention.norm.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.attn\.to_qkv\.(\w+)", r"predictor.layers.\1.attention.qkv.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.attn\.to_out\.0\.(\w+)", r"predictor.layers.\1.attention.out.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.0\.(\w+)", r"predictor.layers.\1.mlp.norm.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.1\.(\w+)", r"predictor.layers.\1.mlp.fc1.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.4\.(\w+)", r"predictor.layers.\1.mlp.fc2.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.adaLN_modulation\.1\.(\w+)", r"predictor.layers.\1.modulation.\2"),
    (r"action_encoder\.patch_embed\.(\w+)", r"action_encoder.bottleneck.\1"),
    (r"action_encoder\.embed\.0\.(\w+)", r"action_encoder.fc1.\1"),
    (r"action_encoder\.embed\.2\.(\w+)", r"action_encoder.fc2.\1"),
    (r"(projector|pred_proj)\.net\.0\.(\w+)", r"\1.fc1.\2"),
    (r"(projector|pred_proj)\.net\.1\.(\w+)", r"\1.batch_norm.\2"),
    (r"(projector|pred_proj)\.net\.3\.(\w+)", r"\1.fc2.\2"),
)


def rename(key: str) -> str:
    """Our name of a released tensor; a third of a fused tensor ends in `:q`, `:k` or `:v`.

    Raises:
        ValueError: for a key that no rule knows.
    """
    new = key
    for pattern, replacement in _NEW_VIT:
        new = re.sub(pattern, replacement, new)
    for pattern, replacement in _RULES:
        if match := re.fullmatch(pattern, new):
            return match.expand(replacement)
    raise ValueError(f"tensor {key!r} does not belong to the released LeWM layout: is this another architecture?")


def convert_state_dict(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict -> the state dict of `LeWMModel`, same numbers.

    Raises:
        ValueError: for an unknown key, two keys that mean the same tensor, or a query, key or value projection without
            its partners.
    """
    converted: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    seen: dict[str, str] = {}
    for key, tensor in released.items():
        new = rename(key)
        if new in seen:
            raise ValueError(f"{seen[new]!r} and {key!r} are the same tensor in two spellings: remove one of them")
        seen[new] = key
        name, _, part = new.partition(":")
        if part:
            thirds.setdefault(name, {})[part] = tensor
        elif name == "action_encoder.bottleneck.weight":
            converted[name] = tensor.squeeze(-1)  # a convolution of kernel size 1 is a linear map
        else:
            converted[name] = tensor
    for name, parts in thirds.items():
        if len(parts) != 3:
            raise ValueError(
                f"only the {', '.join(sorted(parts))} part of {name!r} is there: the checkpoint is incomplete"
            )
        shapes = {part: tuple(tensor.shape) for part, tensor in parts.items()}
        if len(set(shapes.values())) > 1 or () in shapes.values():
            raise ValueError(f"the parts of {name!r} have shapes {shapes}: the three must be alike")
        converted[name] = torch.cat([parts[part] for part in "qkv"])
    return converted
