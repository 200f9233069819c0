"""Draw the reliability diagram of `python -m nbloss evaluate --demo`.

python docs/figures/reliability.py          needs scikit-learn and matplotlib; writes reliability.svg
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from canvas import FOLDER  # it also sets how SVG files are written

import nbloss


def main():
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # matplotlib writes this date, and not today's
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "nbloss", "evaluate", "--demo"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        result = nbloss.evaluate(Path(folder) / "nbloss-demo-logits.npy", Path(folder) / "nbloss-demo-targets.npy")
    result.plot(FOLDER / "reliability.svg")


if __name__ == "__main__":
    main()
