"""Progress of a command on stderr: tqdm's bar where it is installed, otherwise a line per step."""

import sys


class Progress:
    """A progress bar over `total` steps; a context manager."""

    def __init__(self, total, unit):
        self.done, self.total, self.unit = 0, total, unit
        try:
            from tqdm import tqdm
        except ImportError:
            self.bar = None
        else:
            # disable=None: no bar where stderr is not a terminal.
            self.bar = tqdm(total=total, unit=unit, file=sys.stderr, leave=False, disable=None, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def note(self, text):
        """Show what the current step does."""
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix_str(text, refresh=True)

    def say(self, text):
        """Print to stdout without breaking the bar."""
        if self.bar is None or self.bar.disable:
            print(text, flush=True)
        else:
            self.bar.write(text, file=sys.stdout)

    def step(self, what):
        """Count one more finished step."""
        self.done += 1
        if self.bar is None or self.bar.disable:
            print(f"{self.unit} {self.done} of {self.total}: {what}", file=sys.stderr, flush=True)
        else:
            self.bar.update()
