"""Registers, memory and instructions of a compiled kernel, read from its cubin. This needs no driver and no GPU."""

import re
import subprocess
import tempfile
import zlib
from collections import Counter
from functools import cache
from typing import NamedTuple

import tiers
from cuda.pathfinder import find_nvidia_binary_utility

ARCHITECTURES = [(7, 5), (8, 0), (8, 6), (9, 0), (10, 0)]
# Cases whose names begin like this are compiled for all architectures.
MAIN = "gradient-float32", "gradient-bfloat16", "log_softmax-float32", "check targets"
DOUBLE = re.compile(r"D(ADD|MUL|FMA|SETP|MNMX)|MUFU\.\w+64H|[IF]2[IF]\.(\w+\.)*F64")  # not I2F.U64, which is part of an integer division


def architectures(case):
    """What to compile a case for: all if it is in MAIN or with NBLOSS_SLOW=1, otherwise sm_90 and one other."""
    if case.startswith(MAIN) or tiers.is_slow():
        return ARCHITECTURES
    others = [a for a in ARCHITECTURES if a != (9, 0)]
    return [(9, 0), others[zlib.crc32(case.encode()) % len(others)]]


class Kernel(NamedTuple):
    registers: int
    stack: int
    instructions: tuple[str, ...]
    longest_path: int  # see `_longest_path`

    def count(self, name, width=""):
        return sum(op.startswith(name) and width in op for op in self.instructions)

    @property
    def spills(self):
        return self.count("LDL") + self.count("STL")

    @property
    def doubles(self):
        """Instructions on float64, with their counts."""
        return Counter(op for op in self.instructions if DOUBLE.match(op))

    def first(self, name):
        return next((k for k, op in enumerate(self.instructions) if op.startswith(name)), len(self.instructions))

    def last(self, name, width=""):
        return max((k for k, op in enumerate(self.instructions) if op.startswith(name) and width in op), default=-1)


@cache
def _tool(name):
    return find_nvidia_binary_utility(name)


def _output(tool, *arguments):
    return subprocess.run([_tool(tool), *arguments], capture_output=True, text=True, check=True).stdout


INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(@!?U?P\w+\s+)?([A-Z0-9_.]+)(?:[^;`]*`\(([^)]+)\))?")


def _longest_path(listing):
    """The most instructions that one thread executes, with one trip through every loop.

    Of two branches the longer one counts. The slow path of a division does not count, nor does code for lanes that come apart (BRA.DIV).
    """
    places, program = {}, []  # where each label is; (whether it has a condition, operation, target)
    for line in listing.splitlines():
        if label := re.match(r"(\S+):$", line):
            places[label[1]] = len(program)
        elif found := INSTRUCTION.match(line):
            program.append((found[1] is not None, found[2], found[3]))
    lengths = [0] * (len(program) + 1)
    for k in reversed(range(len(program))):
        conditional, operation, target = program[k]
        after = []
        if conditional or operation not in ("BRA", "EXIT"):  # BRA.U has a condition, too
            after.append(lengths[k + 1])
        if operation in ("BRA", "BRA.U") and places[target] > k:
            after.append(lengths[places[target]])
        lengths[k] = (operation != "NOP") + max(after, default=0)
    return lengths[0]


def read(code):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        usage = _output("cuobjdump", "--dump-resource-usage", file.name)
        listing = _output("nvdisasm", "-c", file.name)
    found = [tuple(map(int, numbers)) for numbers in re.findall(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)]
    operations = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", listing, re.MULTILINE)
    registers, stack = max(r for r, *_ in found), max(s + local for _, s, local in found)
    return Kernel(registers, stack, tuple(op for op in operations if op != "NOP"), _longest_path(listing))
