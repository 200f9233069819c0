"""The recording driver (driver.c) as a Python object: builds it, puts it in the place of NVIDIA's, and reads what it has recorded."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("driver.c")
NAME = "libcuda.so.1"


def compiler():
    """The C compiler of this machine, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder):
    """Compile the driver into a folder; returns its path. With this folder in LD_LIBRARY_PATH, a process has the driver."""
    path = Path(folder) / NAME
    command = [compiler(), "-Wall", "-Werror", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{NAME}", "-o", str(path), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return path


def name_only(make, constants, signature, capability, threads, min_blocks=1):
    """In the place of `build.cubin`: a kernel that is not compiled, only a name with the sizes of its parameters."""
    sizes = "".join("4" if kind == "float32" else "8" for kind in signature)
    return f"\0.text.{make.__name__}.{sizes}\0".encode()


class Line(NamedTuple):
    """One recorded call: its name and its values."""

    name: str
    values: dict

    def __getattr__(self, key):
        try:
            value = self.values[key]
        except KeyError:
            raise AttributeError(key) from None
        return int(value) if value.isdigit() else value

    @property
    def kernel_name(self):
        return self.values["kernel"].rpartition(".")[0]

    @property
    def arguments(self):
        return [int(value) for value in self.values["parameters"].split(",")]


class Recorder:
    """The loaded driver. `number` values are read and set as attributes: ``recorder["pending_events"] = 1``."""

    def __init__(self, path):
        # Loaded under the name libcuda.so.1, so that everybody who asks for the driver gets this one.
        self.library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        self.library.recorder_text.restype = ctypes.c_char_p
        self.library.recorder_number.restype = ctypes.POINTER(ctypes.c_long)

    def __getitem__(self, name):
        return self.library.recorder_number(name.encode())[0]

    def __setitem__(self, name, value):
        self.library.recorder_number(name.encode())[0] = value

    def clear(self):
        self.library.recorder_clear()

    def lines(self, *names):
        """What was recorded since `clear`: all of it, or the calls of these names."""
        found = [self._line(text) for text in self.library.recorder_text().decode().splitlines()]
        return [line for line in found if not names or line.name in names]

    @staticmethod
    def _line(text):
        name, *rest = text.split(" ")
        return Line(name, dict(part.split("=", 1) for part in rest if "=" in part))

    def of(self, run):
        """What a call records."""
        self.clear()
        result = run()
        found = self.lines()
        del result
        return found
