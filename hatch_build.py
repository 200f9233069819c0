"""Compile the usual kernels when a wheel is made or the package is installed from its sources: a first call then takes no seconds.

They go to ``nbloss/_compiled``, laid out as the cache folder, and are only used by the Python, versions, sources and processors that they
were made for. Whatever goes wrong here leaves a package without them, which compiles at its first call.

Variables: ``NBLOSS_PRECOMPILED`` names the dtypes of the logits (default: ``float32 float64``); ``0`` skips all this, and makes a wheel for
any platform. ``NBLOSS_LEVELS`` names levels of processors (default: the best one that this machine has; else its very processor).
``NBLOSS_WHEEL_PLATFORM`` is the platform that the wheel's name says. ``tools/build_wheels`` sets all three.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SECONDS = 1800  # after so long the installation goes on without
JOBS = 8
LEVEL = "from nbloss.kernels.cpu.compile.processor import runnable; print(*runnable()[:1])"
STAMP = "from nbloss.kernels.cpu.compile.cache import STAMP; print(STAMP)"


def python(root, *arguments):
    """What a run of Python prints, with the sources' nbloss. What it says on stderr (progress, errors) is shown."""
    environment = os.environ | {"NBLOSS_CACHE_DIR": str(root / "nbloss" / "_compiled"), "NBLOSS_PRECOMPILED": "0"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True).stdout.strip()


class CompiledKernels(BuildHookInterface):
    """Hatch's hook for wheels, also editable ones."""

    def initialize(self, version, build_data):
        dtypes = os.environ.get("NBLOSS_PRECOMPILED", "float32 float64").split()
        if dtypes == ["0"]:
            return
        root = Path(self.root)
        try:
            levels = os.environ.get("NBLOSS_LEVELS", "").split() or python(root, "-c", LEVEL).split()
            for level in [["--level", level] for level in levels] or [[]]:
                jobs = str(min(JOBS, os.cpu_count() or 1))
                python(root, "-m", "nbloss", "warmup", "--dtypes", *dtypes, "--jobs", jobs, *level)
            stamp = python(root, "-c", STAMP)
            for folder in (root / "nbloss" / "_compiled").iterdir():
                if folder.name != stamp:  # of other sources or versions
                    shutil.rmtree(folder, ignore_errors=True)
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"nbloss is installed without compiled kernels; its first calls will compile them: {error}")
            return
        build_data["artifacts"].append(f"/nbloss/_compiled/{stamp}/**/*")
        build_data["pure_python"] = False
        platform = os.environ.get("NBLOSS_WHEEL_PLATFORM")
        if platform:
            interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
            threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
            build_data["tag"] = f"{interpreter}-{interpreter}{threads}-{platform}"
        else:
            build_data["infer_tag"] = True
