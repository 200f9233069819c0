"""Draw the memory of `linear_cross_entropy_value_and_grad` and of other libraries over the number of classes.

    python docs/figures/linear_memory.py              needs matplotlib; writes linear_memory.svg from linear_memory.json
    python docs/figures/linear_memory.py --measure    measures first: needs torch, jax, Linux, and some 6 GB of memory

A point is the peak of the resident memory during one call in a process of its own (`nbloss.bench.measure.memory`): the results are in it,
the features and the layer are not.
"""

import json
import sys

from canvas import FOLDER, GREY, panels, save

from nbloss.bench.report.picture import OTHERS, OURS, STYLES

ROWS, FEATURES, CLASSES = 2048, 256, (1000, 4000, 16000, 50257, 128256)
DRAWN = {  # name in `bench --linear` -> label, (colour, marker), the shift of its label in points
    "torch": ("PyTorch: linear, then cross_entropy", STYLES["torch"], 5),
    "jax": ("JAX, compiled", STYLES["jax"], -6),
    "torch-512": ("PyTorch: chunks of 512 rows", OTHERS[0], 7),
    "nbloss": ("nbloss", (OURS, "D"), -6),
}
DATA = FOLDER / "linear_memory.json"


def measure():
    from nbloss.bench.measure.machine import facts
    from nbloss.bench.measure.memory import peak

    points = {}
    for name in DRAWN:
        points[name] = [peak("linear", name, f"{ROWS}x{FEATURES}x{count}") for count in CLASSES]
        print(name, points[name], flush=True)
    about = facts()
    machine = {key: about[key] for key in ("date", "processor", "cpus", "versions")}
    DATA.write_text(json.dumps({"machine": machine, "rows": ROWS, "features": FEATURES, "classes": CLASSES, "bytes": points}, indent=1))


def main():
    if "--measure" in sys.argv[1:]:
        measure()
    data = json.loads(DATA.read_text())
    classes = data["classes"]
    figure, axes = panels(height=4.2)
    results = [4 * data["features"] * (count + data["rows"]) for count in classes]
    axes.fill_between(classes, [n / 2**20 for n in results], 1, color="#edf2f7", zorder=0)
    axes.text(1.6e4, 2.4, "the gradients that the call returns", fontsize=9, color=GREY, ha="center")
    for name, (label, (colour, marker), shift) in DRAWN.items():
        points = [(count, found / 2**20) for count, found in zip(classes, data["bytes"][name], strict=True) if found]
        x, y = zip(*points, strict=True)
        axes.plot(
            x, y, color=colour, marker=marker, markersize=6, markeredgecolor="white", lw=2.4 if name == "nbloss" else 1.4, label=label
        )
        size = f"{y[-1]:.0f} MiB" if y[-1] < 1024 else f"{y[-1] / 1024:.1f} GiB"
        axes.annotate(size, (x[-1], y[-1]), (9, shift), textcoords="offset points", va="center", color=colour, annotation_clip=False)
    axes.set(xscale="log", yscale="log", xlim=(900, 2.6e5), ylim=(1.5, 8192), ylabel="memory of one call")
    axes.set_xticks(classes, [f"{count:,}" for count in classes])
    axes.set_xticks([], minor=True)
    axes.set_yticks([2, 8, 32, 128, 512, 2048, 8192], ["2 MiB", "8 MiB", "32 MiB", "128 MiB", "512 MiB", "2 GiB", "8 GiB"])
    axes.set_yticks([], minor=True)
    axes.set_xlabel(f"classes\n{data['rows']:,} rows of {data['features']} features, float32; loss and both gradients")
    axes.legend(loc="upper left")
    save(figure, "linear_memory")


if __name__ == "__main__":
    main()
