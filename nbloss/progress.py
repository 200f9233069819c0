"""Progress on stderr. Of a command: tqdm's bar where it is installed, otherwise a line per step. Of bytes: one line on a terminal."""

import math
import sys
from time import monotonic


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


class ByteBar:
    """How many bytes are done, on one line of a terminal, with the speed and the time left; called with ``(done, total or None)``."""

    EVERY = 0.1  # seconds from one line to the next

    def __init__(self, stream):
        self.stream, self.start, self.shown = stream, monotonic(), -math.inf

    @staticmethod
    def of(progress):
        """What the argument ``progress`` of a function asks for: True, False, a callable, or None: a bar if stderr is a terminal."""
        if progress is None:
            progress = sys.stderr is not None and sys.stderr.isatty()
        if callable(progress):
            return _Reporter(progress)
        return ByteBar(sys.stderr) if progress else _Reporter(lambda done, total: None)

    def __call__(self, done, total):
        now = monotonic()
        if now - self.shown >= self.EVERY:
            self.shown = now
            self.stream.write(f"\r\x1b[K{self.line(done, total, now - self.start)}")
            self.stream.flush()

    @staticmethod
    def line(done, total, seconds):
        speed = done / max(seconds, 1e-9)
        if not total:
            return f"{done / 1e9:.2f} GB, {speed / 1e9:.2f} GB/s"
        left = round((total - done) / speed)
        filled = 24 * done // total
        share = f"{100 * done // total:3d}% |{'#' * filled}{' ' * (24 - filled)}| {done / 1e9:.2f} of {total / 1e9:.2f} GB"
        return f"{share}, {speed / 1e9:.2f} GB/s, {left // 60}:{left % 60:02d} left"

    def close(self):
        """Remove the line."""
        if self.shown > 0:
            self.stream.write("\r\x1b[K")
            self.stream.flush()


class _Reporter:
    """A callable in place of a bar."""

    def __init__(self, report):
        self.report = report

    def __call__(self, done, total):
        self.report(done, total)

    def close(self):
        pass
