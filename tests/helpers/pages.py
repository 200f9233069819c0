"""The code of the pages of docs/: its blocks, and a process that runs them from top to bottom."""

import json
import os
import re
import subprocess
import sys

from work import ROOT

RUNNER = """
import doctest, json, sys
page, blocks = json.load(sys.stdin)
names, attempted = {"__name__": "__main__"}, 0
for kind, line, text in blocks:
    if kind == "python":
        exec(compile("\\n" * line + text, page, "exec"), names)
        continue
    test = doctest.DocTestParser().get_doctest(text, names, page, page, line)
    result = doctest.DocTestRunner().run(test, clear_globs=False)
    if result.failed:
        sys.exit(1)
    attempted += result.attempted
    names = test.globs  # get_doctest copies them
print(f"examples: {attempted}")
"""


def blocks(text):
    """The kind, the line and the text of each block that runs."""
    found = re.finditer(r"^```(python|pycon)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(block[1], text.count("\n", 0, block.start()) + 1, block[2]) for block in found]


def run(page, folder):
    """Run the blocks of a page, and check what its examples print; returns how many there are.

    In a process of its own, because what a page imports (PyTorch, JAX), sets and warns of stays there. In ``folder``, because pages write
    files.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([str(page), blocks(page.read_text(encoding="utf-8"))]),
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.rpartition("examples: ")[2])
