"""The project's scores as `evaluate` modules, for other people's models; they load offline, from this package.

```python
from lewm_hf.metrics import load_metric

metric = load_metric("planning_success")
metric.compute(predictions=[True, False, True], references=[False, False, True])
```
"""

from importlib.resources import files
from typing import Any

METRICS = ("planning_success", "probe_score", "surprise_auc")


def metric_path(name: str) -> str:
    """The folder of a module, for `evaluate.load(path)`.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}: use one of {', '.join(METRICS)}")
    return str(files(__name__) / name)


def load_metric(name: str, **kwargs: Any) -> Any:
    """`evaluate.load` of one of `METRICS`.

    Raises:
        ValueError: for an unknown name.
        ImportError: where the `evaluate` library is missing.
    """
    path = metric_path(name)
    try:
        import evaluate
    except ModuleNotFoundError as error:
        raise ImportError("the module 'evaluate' is missing: install it with `pip install evaluate`") from error
    return evaluate.load(path, **kwargs)
