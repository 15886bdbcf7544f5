"""YAML as this package reads it from files: no key of a mapping stands twice, where the last would win in silence."""

from typing import Any

import yaml


class _EachKeyOnce(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """What a YAML document says, in Python's types alone.

    Raises:
        yaml.YAMLError: for what is no YAML, and for a key that stands twice in a mapping, with line and column.
    """
    return yaml.load(text, _EachKeyOnce)
