"""Progress of a command on stderr: tqdm's bar where it is installed, otherwise a line per step."""

import sys


class Progress:
    """A bar over `total` steps, to be used in a ``with``."""

    def __init__(self, total, unit):
        self.done, self.total, self.unit = 0, total, unit
        try:
            from tqdm import tqdm
        except ImportError:
            self.bar = None
        else:
            # Where stderr is no terminal a bar would be a heap of its states: tqdm leaves it out on None.
            self.bar = tqdm(total=total, unit=unit, file=sys.stderr, leave=False, disable=None, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def note(self, text):
        """What is being done."""
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix_str(text, refresh=True)

    def say(self, text):
        """Print to stdout without tearing the bar."""
        if self.bar is None or self.bar.disable:
            print(text, flush=True)
        else:
            self.bar.write(text, file=sys.stdout)

    def step(self, what):
        """One more is done."""
        self.done += 1
        if self.bar is None or self.bar.disable:
            print(f"{self.unit} {self.done} of {self.total}: {what}", file=sys.stderr, flush=True)
        else:
            self.bar.update()
