import sys
from pathlib import Path

import gymnasium
import pytest

from lewm_hf.tasks import registry


@pytest.fixture(scope="module")
def own_module():
    """The user's folder on the path, and no trace of it afterwards."""
    known, ids = dict(registry._registered), set(gymnasium.registry)
    sys.path.insert(0, str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))
    sys.modules.pop("slider_task", None)
    for new in set(gymnasium.registry) - ids:
        gymnasium.registry.pop(new)
    registry._registered.clear()
    registry._registered.update(known)
