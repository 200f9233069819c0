"""Draw the layers of the package and the path of one call through them.

python docs/figures/call_path.py          needs matplotlib; writes call-path.svg
"""

from canvas import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, Canvas

SIMD = "vec (registers as a Numba type), load_store, transpose, exp2, vecmath, nontemporal, workspace"


def main():
    c = Canvas(28, 29, inches=0.31)
    c.text(0.6, 28.3, "The path of nbloss.functional.cross_entropy_value_and_grad(x, y)", 9.5, weight="bold")

    c.box(5, 25.8, 20, 1.7, "modules/, functional/", ["names and options of torch.nn and torch.nn.functional; docstrings"], BLUE)
    c.box(5, 22.4, 8.5, 2.2, "_fast_path", ["NumPy arrays, C order, class", "numbers, no unusual option"], GREEN)
    c.box(
        15,
        22.4,
        10,
        2.2,
        "_general_path, _problem",
        ["arguments -> (outer, C, inner) views,", "numbers per row; every argument error"],
        BLUE,
    )
    c.arrow((9.2, 25.7), (9.2, 24.7))
    c.note(9.5, 25.2, "tried first")
    c.arrow((13.6, 23.5), (14.9, 23.5), dashed=True)
    c.text(14.25, 24.1, "declined", 7, "center", colour=GREY)

    c.box(15, 19.1, 10, 2.2, "backends/", ["select: which device", "cpu, cuda: arrays, outputs, results"], BLUE)
    c.arrow((20, 22.3), (20, 21.4))
    c.box(5, 16.5, 20, 1.5, "kernels/contract", ["names, parameters and formulas that every backend offers"], PALE)
    c.arrow((9.2, 22.3), (9.2, 18.1))
    c.note(9.5, 20.2, "fused_loss")
    c.arrow((20, 19), (20, 18.1))

    c.box(5, 13.4, 11.6, 2, "cpu/kernel_set, cpu/choose", ["layout -> kernel and grain; tuning has the thresholds"], ORANGE)
    c.box(17.4, 13.4, 4.5, 2, "cuda/", ["kernel_set, plan,", "launch"], PURPLE, small=7)
    c.box(22.7, 13.4, 4.7, 2, "reference", ["NumPy, for a", "debugger"], PALE, small=7)
    for x in (10.8, 19.6, 24.2):
        c.arrow((x, 16.4), (x, 15.5))

    c.box(5, 10.3, 11.6, 2, "cpu/compile/", ["jit: load or compile; cache; threads; parallel_for"], ORANGE)
    c.arrow((10.8, 13.3), (10.8, 12.4))
    for k, (name, lines) in enumerate([
        ("vector_per_row", ["long rows"]), ("row_per_lane", ["short rows, strides"]), ("channels_first", ["(N, C, H, W)"]),
        ("per_target", ["nll, sums"]), ("fused", ["a whole loss"]),
    ]):  # fmt: skip
        c.box(1.2 + 4.15 * k, 7, 3.85, 2, name, lines, ORANGE, size=8, small=6.5)
    c.arrow((10.8, 10.2), (10.8, 9.1))
    c.note(11.1, 9.65, "one machine-code call")
    c.box(22.7, 7, 4.7, 2, "cuda kernels", ["rows, channels_first,", "per_target"], PURPLE, size=8, small=6.5)
    c.arrow((19.9, 13.3), (24.6, 9.1), bend=0.1)
    c.box(
        1.2,
        4.4,
        20.45,
        1.6,
        "cpu/simd/",
        [SIMD],
        ORANGE,
        small=7,
    )
    c.box(22.7, 4.4, 4.7, 1.6, "cuda/prims", ["PTX, or a simulator"], PURPLE, size=8, small=6.5)
    c.arrow((10.8, 6.9), (10.8, 6.1))
    c.arrow((25, 6.9), (25, 6.1))
    c.box(
        1.2,
        2,
        26.2,
        1.5,
        "kernels/math: logit_map, epilogue, rowmath",
        ["a row's formulas, one source for the CPU, CUDA and the reference"],
        GREEN,
    )
    c.box(1.2, 0.3, 26.2, 1.2, "_fork_safety, disk, levels: import nothing of the package above them", [], PALE, size=8)
    for x in (10.8, 25):
        c.arrow((x, 4.3), (x, 3.6))

    for y, words in [(26.6, "public"), (23.5, "arguments"), (20.2, "devices"), (17.2, "contract"), (14.4, "choice"), (11.3, "execution")]:
        c.text(0.6, y, words, 8, colour=GREY)
    c.save("call-path")


if __name__ == "__main__":
    main()
