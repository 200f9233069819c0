"""Compile the usual kernels, for the processor that the package is installed on: a first call then takes no seconds.

They go to ``nbloss/_compiled``, laid out as the cache folder, and are only used by the Python, versions, sources and processor that
they were made with. Whatever goes wrong here leaves a package without them, which compiles at its first call. ``NBLOSS_PRECOMPILED``
names the dtypes of the logits (default: ``float32 float64``); ``NBLOSS_PRECOMPILED=0`` skips all this, and makes a wheel for any platform.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SECONDS = 600  # after so long the installation goes on without
JOBS = 8


def python(root, *arguments):
    """What a run of Python prints, with the sources' nbloss."""
    environment = os.environ | {"NBLOSS_CACHE_DIR": str(root / "nbloss" / "_compiled"), "NBLOSS_PRECOMPILED": "0"}
    done = subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise OSError(f"{' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout.strip()


class CompiledKernels(BuildHookInterface):
    """Hatch's hook for wheels, also editable ones."""

    def initialize(self, version, build_data):
        dtypes = os.environ.get("NBLOSS_PRECOMPILED", "float32 float64").split()
        if dtypes == ["0"]:
            return
        root = Path(self.root)
        try:
            python(root, "-m", "nbloss", "warmup", "--dtypes", *dtypes, "--jobs", str(min(JOBS, os.cpu_count() or 1)))
            stamp = python(root, "-c", "from nbloss.kernels.cpu.cache import STAMP; print(STAMP)")
            for folder in (root / "nbloss" / "_compiled").iterdir():
                if folder.name != stamp:  # of other sources or versions
                    shutil.rmtree(folder, ignore_errors=True)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.app.display_warning(f"nbloss is installed without compiled kernels; its first calls will compile them: {error}")
            return
        build_data["artifacts"].append(f"/nbloss/_compiled/{stamp}/*")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
