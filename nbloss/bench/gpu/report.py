"""The GPU races as a table, as JSON and as a picture. Lost races are shown like won ones."""

import json
import os

LABELS = {"cross_entropy_value_and_grad": "value and gradient", "cross_entropy": "cross entropy", "log_softmax": "log-softmax"}
COLOURS = {"nbloss": "#d95f02", "torch": "#9aa5b1", "torch.compile": "#5b7083", "triton": "#2f3e4d"}
REASONS = ("absent", "wrong", "failed")


class Lines:
    """races.jsonl of a folder: a line for each record, written at once, so that a run that is killed keeps its races."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "races.jsonl")
        open(self.path, "w").close()

    def add(self, record):
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")

    def read(self):
        with open(self.path) as file:
            return [json.loads(line) for line in file]


def title(record):
    """Operation, shape and dtype in one line."""
    return f"{record['operation']}  {'x'.join(map(str, record['shape']))} {record['dtype']}"


def race_table(record):
    """One race: the fastest peer first, then the peers that were not timed, with the reason."""
    columns = "{:<48}{:>11}{:>23}{:>9}{:>9}{:>10}{:>12}".format
    lines = [columns(title(record), "median", "quartiles", "GB/s", "of copy", "x nbloss", "host a call")]
    timed = {n: c for n, c in record["contenders"].items() if "seconds" in c}
    for name in sorted(timed, key=lambda n: timed[n]["seconds"]):
        c = timed[name]
        versus = "" if c["to_nbloss"] is None else f"{c['to_nbloss']:.2f}"
        spread = f"{micro(c['low'])} - {micro(c['high'])}"
        rate, share = f"{record['bytes'] / c['seconds'] / 1e9:.0f}", f"{100 * c['share']:.0f} %"
        lines.append(columns(f"  {name}", micro(c["seconds"]), spread, rate, share, versus, micro(c["host_seconds"])))
    for name, c in record["contenders"].items():
        lines += [f"  {name}  {kind}: {' '.join(c[kind].split())[:120]}" for kind in REASONS if kind in c]
    return "\n".join(lines)


def micro(seconds):
    """A time in microseconds."""
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.3f} ms"


def about(facts):
    """The machine in two lines."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    rate = facts["copy_bytes_per_second"] / 1e9
    unit = f"{facts['device']} (sm_{facts['capability']}), {facts['multiprocessors']} multiprocessors"
    return f"{unit}; copy bandwidth: {rate:.0f} GB/s\n{versions}"


def table(records, facts):
    """All races, and the machine."""
    return "\n\n".join([*map(race_table, records), about(facts)])


def write(folder, records, facts):
    """results.json and results.txt, and results.png where matplotlib is installed."""
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump({"machine": facts, "races": records}, file, indent=1)
        file.write("\n")
    with open(os.path.join(folder, "results.txt"), "w") as file:
        file.write(table(records, facts) + "\n")
    try:
        from matplotlib.figure import Figure  # not pyplot, which has global state and may need a window system
    except ImportError:
        return
    draw(records, facts, Figure).savefig(os.path.join(folder, "results.png"), dpi=120, format="png")


def draw(records, facts, figure_type):
    """Share of the device's copy bandwidth: a row per operation, a column per dtype, a group of bars per shape."""
    operations = list(dict.fromkeys(r["operation"] for r in records))
    dtypes = list(dict.fromkeys(r["dtype"] for r in records))
    figure = figure_type(figsize=(7 * max(1, len(dtypes)), 3 * max(1, len(operations)) + 0.6), layout="constrained")
    panels = figure.subplots(max(1, len(operations)), max(1, len(dtypes)), squeeze=False)
    for i, operation in enumerate(operations):
        for j, dtype in enumerate(dtypes):
            here = [r for r in records if (r["operation"], r["dtype"]) == (operation, dtype)]
            _panel(panels[i][j], here)
            panels[i][j].set_title(f"{LABELS.get(operation, operation)}, {dtype}", fontsize=9)
    figure.suptitle(f"{facts['device']}: share of its copy bandwidth (higher is better; dashed line: the copy)", fontsize=10)
    if records:
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _panel(panel, records):
    names = [name for name in COLOURS if any(name in r["contenders"] for r in records)]
    width = 0.8 / max(1, len(names))
    for k, name in enumerate(names):
        shares = [100 * r["contenders"].get(name, {}).get("share", 0) for r in records]
        panel.bar([g + (k + 0.5) * width - 0.4 for g in range(len(records))], shares, width, label=name, color=COLOURS[name])
    panel.axhline(100, ls="--", lw=1, color="#1b9e77")
    panel.set_xticks(range(len(records)), ["x".join(map(str, r["shape"])) for r in records], fontsize=7)
    panel.set_ylabel("% of copy", fontsize=8)
    panel.tick_params(axis="y", labelsize=8)
