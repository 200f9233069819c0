"""The generated tables in docs/. `python -m nbloss bench --fill PAGE` writes them.

A table stands between the lines ``<!-- nbloss bench: KIND -->`` and ``<!-- end of nbloss bench -->``. Everything between them is
replaced. KIND is a key of `KINDS`.
"""

import re

from .. import evaluate, interop, linear, options, races
from ..measure.machine import busy_note
from ..problem import Problem
from ..races import title
from . import variants
from .report import matrix, missing, outcomes, slower, split, tally

_BLOCK = re.compile(r"(<!-- nbloss bench: (\w+) -->\n).*?(<!-- end of nbloss bench -->\n)", re.DOTALL)

COMPILERS = ("torch.compile", "jax")
FEW = 100  # classes
BYTES = {"copy": 2, "read": 1}  # the traffic of a memory baseline, as a multiple of the logits'


def _table(head, rows):
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _markdown(records):
    head, rows = matrix(records)
    return _table(head, [[re.sub(r"^(.+)\*$", r"**\1**", cell) for cell in row] for row in rows])


def _setting(facts):
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if name not in ("llvmlite", "jaxlib"))
    lines = [
        f"Measured {facts['date'][:10]} on {facts['cpus']} cpus of an {facts['processor']}; Python {facts['python']}, {versions}.",
        "Medians of one run, contenders in turns, results into arrays that are there already where a contender can.",
        "Rivals: their time over nbloss's, above 1 where nbloss is faster; the fastest of a row is bold.",
        busy_note(facts),
    ]
    return [line for line in lines if line]


def _lost(records):
    found = list(outcomes(records))
    lost = [f"`{title(record, ' ')}` to {rival} ({ratio:.2f}x)" for word, record, rival, ratio in found if word == "LOSS"]
    return f"Against the best rival of each of the {len(found)} races: {tally(found)}." + (f" Lost: {', '.join(lost)}." if lost else "")


def short(records, facts):
    """Loss and gradient in float32, and the lost races of the whole run."""
    some = [r for r in records if (r["operation"], r["dtype"]) == (races.VALUE_AND_GRAD, "float32") and r["shape"] in races.SHAPES]
    return [*_setting(facts), "", *_markdown(some or records), "", _lost(records)]


def full(records, facts):
    """Every race."""
    return [*_setting(facts), "", *_markdown(records), "", _lost(records)]


def threefold(records, facts):
    """The races of few classes where a compiler's code takes less than three times nbloss's time, and what a third of its time means."""
    head = ["", "nearest", "its time", "nbloss", "a third of it", "the bytes alone"]
    rows = [row for record in records if (row := _near(record)) is not None]
    return _table(head, rows) if rows else ["Nowhere."]


def _near(record):
    """The row of such a race, in multiples of nbloss's time and of the memory baseline; None for any other race."""
    timed, problem, yardstick = dict(split(record)[0]), Problem.parse(record["shape"], record["dtype"]), record["yardstick"]
    ratios = {name: timed[name]["to_nbloss"] for name in COMPILERS if name in timed and "nbloss" in timed}
    if problem.shape[1] > FEW or not ratios or min(ratios.values()) >= 3:
        return None
    ours = timed["nbloss"]["to_yardstick"]
    name, ratio = min(ratios.items(), key=lambda item: item[1])
    least = record["bytes"] / (problem.size * problem.numpy_dtype.itemsize * BYTES[yardstick])
    return [title(record), name, f"{ratio:.3g}x", *(f"{times:.2f} {yardstick}" for times in (ours, ours * ratio / 3, least))]


def every_cell(records, facts):
    """Every race, every cell that is lost, and the peers that were not timed."""
    found = slower(records)
    lost = [f"`{title(record, ' ')}` to {rival} ({ratio:.2f}x)" for record, rival, ratio in found]
    lines = [f"Cells where a rival is faster: {', '.join(lost) or 'none'}."]
    lines += [f"Not timed in {len(some)} of {len(records)} races: {peer}, {reason}." for (peer, reason), some in missing(records).items()]
    return [*_setting(facts), "", *_markdown(records), "", *(part for line in lines for part in (line, ""))][:-1]


def with_memory(records, facts):
    """Every race, and the memory of one call of each contender."""
    columns = [name for name in linear.names() if any("memory" in r["contenders"].get(name, {}) for r in records)]

    def cell(record, name):
        size = record["contenders"].get(name, {}).get("memory")
        return "" if size is None else f"{size / 2**20:.0f} MiB"

    rows = [[title(record), *(cell(record, name) for name in columns)] for record in records]
    return [*every_cell(records, facts), "", *_table(["", *columns], rows)]


KINDS = {
    "short": short,
    "full": full,
    "threefold": threefold,
    "variants": variants.markdown,
    "options": every_cell,
    "interop": every_cell,
    "linear": with_memory,
    "evaluate": every_cell,
}


def _of(records):
    """The kinds of tables that results have."""
    if any("variant" in record for record in records):
        return {"variants"}
    sets = {"options": options, "interop": interop, "linear": linear, "evaluate": evaluate}
    for kind, some in sets.items():
        if any(record["operation"] in some.OPERATIONS for record in records):
            return {kind}
    return {*KINDS} - {"variants", *sets}


def filled(text, records, facts):
    """The text of a page with new tables. Tables of other results stay as they are."""
    some = _of(records)
    return _BLOCK.sub(
        lambda found: found[1] + "\n".join(KINDS[found[2]](records, facts)) + "\n" + found[3] if found[2] in some else found[0], text
    )


def read(path):
    """The text of a page that has tables to write; ValueError for any other page."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    kinds = [kind for _, kind, _ in _BLOCK.findall(text)]
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"{path} should have a block between `<!-- nbloss bench: KIND -->` and `<!-- end of nbloss bench -->`, "
                         f"KIND one of {', '.join(KINDS)}; got {kinds or 'none'}")  # fmt: skip
    return text


def fill(path, records, facts):
    """Write the tables of a page."""
    text = filled(read(path), records, facts)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
