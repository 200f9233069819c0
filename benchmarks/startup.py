"""Start-up times of a new process: the import, and the first call with the kernels in the cache on disk."""

from importlib.util import find_spec

FIRST_CALL = {
    "nbloss": ("import nbloss.functional as F", "F.cross_entropy_value_and_grad(x, y)"),
    "torch": (
        "import torch; import torch.nn.functional as F",
        "X = torch.from_numpy(x).requires_grad_(); F.cross_entropy(X, torch.from_numpy(y)).backward()",
    ),
}


def _needs(module):
    if find_spec(module) is None:
        raise NotImplementedError(f"{module} is not installed")


def timeraw_import_nbloss():
    return "import nbloss"


def timeraw_import_nbloss_functional():
    return "import nbloss.functional"


def timeraw_import_numpy():
    """The control: nbloss imports NumPy, so it cannot be faster."""
    return "import numpy"


def timeraw_import_torch():
    return "import torch"


timeraw_import_torch.setup = lambda: _needs("torch")


class FirstCall:
    """The import and the first loss with gradient. NumPy is imported and the arrays exist already."""

    params = list(FIRST_CALL)
    param_names = ["peer"]

    def setup(self, peer):
        _needs(peer)
        if peer == "nbloss":  # fills the cache on disk, which the new process then reads
            import numpy as np

            import nbloss.functional as F

            F.cross_entropy_value_and_grad(np.zeros((32, 10), np.float32), np.zeros(32, np.int64))

    def timeraw_first_call(self, peer):
        prepare, call = FIRST_CALL[peer]
        arrays = "import numpy as np; x = np.zeros((32, 10), np.float32); y = np.zeros(32, np.int64)"
        return f"{prepare}; {call}", arrays
