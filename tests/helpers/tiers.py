"""The quick tier: a few cases of each test that has many. With NBLOSS_SLOW=1 all cases run (`make test-slow`)."""

import os
import zlib


def is_slow():
    """Whether all cases run."""
    return bool(os.environ.get("NBLOSS_SLOW"))


def keep_cases(config, items, number, of_test):
    """Keep ``number`` pseudo-random cases, the same in every run, of each test for whose items ``of_test(item)`` is true."""
    groups: dict = {}
    for item in items:
        if of_test(item):
            groups.setdefault((item.path, item.originalname), []).append(item)
    dropped = set()
    for group in groups.values():
        dropped |= {item.nodeid for item in sorted(group, key=lambda item: zlib.crc32(item.nodeid.encode()))[number:]}
    drop(config, items, dropped)


def drop(config, items, dropped):
    """Deselect the items with these identifiers."""
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in dropped])
        items[:] = [item for item in items if item.nodeid not in dropped]
