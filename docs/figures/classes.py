"""Draw the time per logit over the number of classes, from the races of the benchmark.

    python docs/figures/classes.py          needs matplotlib; writes classes.svg from docs/bench.json, and measures nothing

The races are those of loss and gradient, float32, classes contiguous. They have different sizes, so lines join races and not measurements
of one size: `python -m nbloss bench scaling` has those.
"""

import json

from canvas import FOLDER, GREY, panels, save

from nbloss.bench.report.picture import BASELINE, MEMORY, OURS, STYLES

DRAWN = {"nbloss": (OURS, "D"), "copy": (MEMORY, "|")} | {name: STYLES[name] for name in ("jax", "torch.compile", "torch", "numpy")}
NAMES = {"copy": f"{BASELINE}: a copy of the logits"}
LEAST_LOGITS = 100_000  # smaller calls cost the call itself


def points(races, name):
    """(classes, ns per logit, its quartiles) of one contender, in the order of the classes."""
    for race in sorted(races, key=lambda race: int(race["shape"].split("x")[1])):
        found = race["contenders"].get(name, {})
        if "seconds" in found:
            rows, classes = map(int, race["shape"].split("x"))
            yield classes, *(found[key] * 1e9 / (rows * classes) for key in ("seconds", "low", "high"))


def wanted(race):
    plain = race["operation"] == "cross_entropy_value_and_grad" and race["dtype"] == "float32" and race["shape"].count("x") == 1
    if not plain or race["shape"].endswith(".T"):
        return False
    rows, classes = map(int, race["shape"].split("x"))
    return rows * classes >= LEAST_LOGITS


def main():
    data = json.loads((FOLDER.parent / "bench.json").read_text())
    races = [race for race in data["races"] if wanted(race)]
    figure, axes = panels(height=4.4)
    for name, (colour, marker) in DRAWN.items():
        classes, median, low, high = zip(*points(races, name), strict=True)
        style = {"ms": 10, "mew": 2.2} if marker == "|" else {"ms": 6, "mec": "white"}
        axes.plot(classes, median, color=colour, marker=marker, lw=2.4 if name == "nbloss" else 1.3, label=NAMES.get(name, name), **style)
        axes.vlines(classes, low, high, color=colour, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="classes", ylabel="ns per logit")
    ticks = [int(race["shape"].split("x")[1]) for race in races]
    axes.set_xticks(
        ticks,
        [  # 50,257 has no room
            "" if count == 50257 else f"{count:,}" for count in ticks
        ],
    )
    axes.set_xticks([], minor=True)
    axes.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20], ["0.2", "0.5", "1", "2", "5", "10", "20"])
    axes.set_yticks([], minor=True)
    machine = data["machine"]
    axes.set_title(f"Loss and gradient, float32\n{machine['processor']}, {machine['cpus']} CPUs", loc="left", color=GREY)
    figure.legend(loc="outside lower center", ncols=3)
    save(figure, "classes")


if __name__ == "__main__":
    main()
