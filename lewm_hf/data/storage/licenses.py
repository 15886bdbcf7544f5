"""Under which license a data set stands: nothing is claimed of what other people recorded unless they say so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard

# Of the Hub's metadata; the last two belong to a license called `other`.
LICENSE_KEYS = ("license", "license_name", "license_link")
# Episodes of this package's own environments: as the package.
OWN_ENVIRONMENTS, OWN_LICENSE = "lewm/", "apache-2.0"


def stated_license(source: Path) -> dict[str, Any]:
    """The license that a folder's `README.md` states in the Hub's metadata, by their keys; empty where it states none.

    Args:
        source: file or folder of a recording.
    """
    card = source / "README.md"
    if not card.is_file():
        return {}
    try:
        stated = DatasetCard.load(card).data.to_dict()
    except (ValueError, yaml.YAMLError):  # a text of another kind, or not in UTF-8
        return {}
    if not isinstance(stated.get("license"), str | list):
        return {}
    return {key: stated[key] for key in LICENSE_KEYS if stated.get(key)}


def license_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """The license of a data set by its `episodes.json`, as keys of the Hub's metadata; empty where nobody has said.

    Args:
        description: content of the file; what is collected in environments of this package needs no word in it.
    """
    stated = {key: description[key] for key in LICENSE_KEYS if description.get(key)}
    collected = "imported_from" not in description["collector"]
    if not stated and collected and str(description.get("env")).startswith(OWN_ENVIRONMENTS):
        return {"license": OWN_LICENSE}
    return stated
