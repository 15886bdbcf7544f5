"""Episodes of other formats: `import_dataset("hdf5", "pusht_expert_train.h5", "push_t", env="push_t")`."""

from .formats import FORMATS
from .run import import_dataset

__all__ = ["FORMATS", "import_dataset"]
