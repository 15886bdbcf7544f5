"""Episodes of other formats: `import_dataset("hdf5", "pusht_expert_train.h5", "push_t", env="push_t")`."""

from .run import FORMATS, import_dataset

__all__ = ["FORMATS", "import_dataset"]
