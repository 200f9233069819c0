"""Controls: they time the machine, not nbloss. If a control changes between two commits, the machine changed."""

import numpy as np


class Control:
    def setup(self):
        self.small = np.linspace(-4, 4, 1 << 14)
        self.large = np.full(1 << 24, 1.0, np.float32)  # 64 MiB, larger than most caches
        self.out = np.full_like(self.large, 0)

    def time_python_loop(self):
        total = 0
        for i in range(20_000):
            total += i
        return total

    def time_numpy_exp(self):
        np.exp(self.small)

    def time_copy(self):
        np.copyto(self.out, self.large)
