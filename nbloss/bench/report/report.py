"""Races as text for the terminal and tables for the pages. Lost races are shown like won ones."""

from ..evaluate import names as evaluate_peers
from ..interop import names as interop_peers
from ..linear import names as linear_peers
from ..measure.yardsticks import NO_PEERS, YARDSTICKS
from ..options import names as option_peers
from ..peers import VARIANTS, names
from ..races import title

# ---------------------------------------- one race ----------------------------------------


def race_table(record):
    """One race, with the fastest peer first."""
    columns = "{:<53}{:>11}{:>21}{:>8}{:>9}{:>10}".format
    yardstick = record["yardstick"]
    lines = [columns(title(record), "median", "quartiles", "GB/s", f"x {yardstick}", "x nbloss")]
    timed, others = split(record)
    for peer, r in timed:
        rate, versus = f"{record['bytes'] / r['seconds'] / 1e9:.1f}", r["to_nbloss"]
        versus = "" if versus is None else f"{versus:.2f}"
        if peer in NO_PEERS:  # a memory baseline: its traffic differs from the operation's, and it is no peer
            peer, rate, versus = f"({peer})", "", ""
        spread = f"{duration(r['low'])} - {duration(r['high'])}"
        lines.append(columns(f"  {peer}", duration(r["seconds"]), spread, rate, f"{r['to_yardstick']:.2f}", versus))
    lines += [f"  {peer:<20}{kind}: {reason}" for peer, kind, reason in others]
    memory = [f"{peer} {r['memory'] / 2**20:.0f} MiB" for peer, r in timed if r.get("memory") is not None]
    lines += [f"  memory of one call: {', '.join(memory)}"] if memory else []
    return "\n".join(lines)


def split(record):
    """(the timed peers, fastest first), (the other peers, with the reason)."""
    items = record["contenders"].items()
    timed = sorted(((n, r) for n, r in items if "seconds" in r), key=lambda item: item[1]["seconds"])
    others = [(n, kind, " ".join(r[kind].split())[:160]) for n, r in items for kind in ("absent", "wrong", "failed") if kind in r]
    return timed, others


def duration(seconds):
    """A time with three digits and its unit."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


# ---------------------------------------- all races ----------------------------------------


def outcomes(records):
    """(word, record, best rival, its time over nbloss's) of every race with rivals. The word is "tie" where the quartiles overlap."""
    for record in records:
        timed = {n: r for n, r in split(record)[0] if n not in NO_PEERS and n not in VARIANTS}
        ours = timed.pop("nbloss", None)
        if ours is None or not timed:
            continue
        rival, theirs = next(iter(timed.items()))
        apart = ours["high"] < theirs["low"] or theirs["high"] < ours["low"]
        yield ("tie" if not apart else "win" if theirs["to_nbloss"] > 1 else "LOSS"), record, rival, theirs["to_nbloss"]


def slower(records):
    """(record, rival, its time over nbloss's) wherever a rival is faster than nbloss, the largest difference first."""
    found = [(record, peer, r["to_nbloss"]) for record in records for peer, r in split(record)[0]
             if peer not in NO_PEERS and peer not in VARIANTS and r["to_nbloss"] and r["to_nbloss"] < 1]  # fmt: skip
    return sorted(found, key=lambda item: item[2])


def missing(records):
    """{(peer, why it was not timed): the races}, such as a library that is not installed."""
    found = {}
    for record in records:
        for peer, kind, reason in split(record)[1]:
            found.setdefault((peer, f"{kind}: {reason}"), []).append(record)
    return found


def verdict(records):
    """How many races nbloss won, lost and tied, and one line for each race."""
    found = list(outcomes(records))
    if not found:
        return "No race had both nbloss and a rival."
    lines = [f"  {word:<4}  {title(record):<53} next best: {rival} at {ratio:.2f}x nbloss's time" for word, record, rival, ratio in found]
    return "\n".join([f"nbloss against its best rival: {tally(found)}", *lines])


def tally(found):
    """The outcomes, counted."""
    count = {word: sum(o[0] == word for o in found) for word in ("win", "LOSS", "tie")}
    return f"{count['win']} won, {count['LOSS']} lost, {count['tie']} tied (the quartiles overlap)"


def matrix(records):
    """Head and rows: one row per race, one column per peer that was timed in one of the races.

    A row has nbloss's time, its multiple of the memory baseline, and each rival's time as a multiple of nbloss's. ``*``
    marks the fastest peer of a row.
    """
    known = dict.fromkeys([*names(), *option_peers(), *interop_peers(), *linear_peers(), *evaluate_peers()])
    rivals = [peer for peer in known if peer != "nbloss" and any("seconds" in r["contenders"].get(peer, {}) for r in records)]
    own = {r["yardstick"] for r in records} - set(YARDSTICKS)
    against = own.pop() if own else "copy/read"
    return ["", "nbloss", f"x {against}", *rivals], [_row(record, rivals) for record in records]


def _row(record, rivals):
    timed = dict(split(record)[0])
    fastest = next((name for name in timed if name not in NO_PEERS), None)

    def cell(name, text):
        return text + "*" * (name == fastest)

    ours = timed.get("nbloss")
    row = [title(record)]
    row += ["", ""] if ours is None else [cell("nbloss", duration(ours["seconds"])), f"{ours['to_yardstick']:.2f} {record['yardstick']}"]
    for name in rivals:
        text = ""
        if name in timed:
            ratio = timed[name]["to_nbloss"]
            text = duration(timed[name]["seconds"]) if ratio is None else f"{ratio:.3g}x"
        row.append(cell(name, text) if text else "")
    return row


def summary(records):
    """The matrix as text for a terminal."""
    head, rows = matrix(records)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]).rstrip()
             for cells in (head, *rows)]  # fmt: skip
    return "\n".join([*lines, "(rivals: time over nbloss's, above 1 where nbloss is faster; *: the fastest)"])
