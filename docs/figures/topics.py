"""What the scripts of the topic pages share: colours, and the examples of the repository."""

import sys
from pathlib import Path

import nbloss

BLUE, RED, GREY = "#2b6cb0", "#c53030", "#718096"

sys.path.append(str(Path(nbloss.__file__).parents[1]))  # `examples`, in a clone that is installed with -e
