"""Draw what a vector register holds in each CPU algorithm, and how a thread group holds a row on a GPU.

    python docs/figures/registers.py          needs matplotlib; writes the SVG files of this folder

A register is drawn with 16 float32 lanes; a float64 register has 8.
"""

from canvas import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, RED, ROWS, Canvas

LANES = 16


def vector_per_row():
    c = Canvas(21, 15)
    c.text(0.5, 14.4, "Memory: one row of logits, classes contiguous", 9, weight="bold")
    for k in range(4):
        c.cell(0.5 + 4 * k, 13, f"x[i, {16 * k}..{16 * k + 15}]", ROWS[k], width=4)
    c.text(16.8, 13.5, "...  up to C", 9)
    c.text(0.5, 11.9, "Registers: four vectors side by side, 64 classes of one row per step", 9, weight="bold")
    for k in range(4):
        y = 10.4 - 1.25 * k
        c.cells(0.5, y, [str(16 * k + j) for j in range(LANES)], ROWS[k])
        c.frame(0.5, y, LANES, 1)
        c.text(16.8, y + 0.5, f"register {k}", 8)
    c.arrow((8.5, 6.6), (8.5, 5.75))
    c.text(9, 6.2, "e = exp(x - m), then add: registers 0 and 2 to a, 1 and 3 to b", 8)
    c.cells(0.5, 4.6, [f"a{j}" for j in range(LANES)], BLUE)
    c.frame(0.5, 4.6, LANES, 1)
    c.text(16.8, 5.1, "16 partial sums", 8)
    c.cells(0.5, 3.35, [f"b{j}" for j in range(LANES)], GREEN)
    c.frame(0.5, 3.35, LANES, 1)
    c.text(16.8, 3.85, "16 partial sums", 8)
    c.arrow((8.5, 3.3), (8.5, 2.45))
    c.text(9, 2.85, "a + b, to float64 every 256 classes, then a fixed tree over the lanes", 8)
    c.cell(7.5, 1.3, "s", ORANGE, width=2, size=9)
    c.note(0.5, 0.6, "One row is one chain: maximum, sum, logarithm, scaling. Short rows go through the steps in groups of up to 16.")
    c.save("vector-per-row")


def row_per_lane():
    c = Canvas(21, 17.6)
    c.text(0.5, 17, "Memory: 16 rows of C = 4 classes, classes contiguous", 9, weight="bold")
    for i in range(LANES):
        c.cells(0.5 + 5 * (i % 4), 15.4 - 1.1 * (i // 4), [f"{i},{j}" for j in range(4)], [ROWS[j] for j in range(4)])
    c.text(0.5, 11.5, 'Cell "i,j" is row i, class j. Each row is one 16-byte load.', 7.5, colour=GREY)
    c.arrow((10.5, 11.2), (10.5, 10.3))
    c.text(11, 10.75, "pack: transpose in registers", 8)
    c.text(0.5, 9.8, "Tile: one register per class, one row per lane", 9, weight="bold")
    for j in range(4):
        y = 8.3 - 1.25 * j
        c.cells(0.5, y, [f"{i},{j}" for i in range(LANES)], ROWS[j])
        c.frame(0.5, y, LANES, 1)
        c.text(16.8, y + 0.5, f"class {j}", 8)
    c.arrow((8.5, 4.45), (8.5, 3.55))
    c.text(9, 4, "a loop over the classes: no sum across lanes is needed", 8)
    c.cells(0.5, 2.4, [f"s{i}" for i in range(LANES)], PALE)
    c.frame(0.5, 2.4, LANES, 1)
    c.text(16.8, 2.9, "16 rows' sums", 8)
    c.cells(0.5, 1.15, [f"l{i}" for i in range(LANES)], PALE)
    c.frame(0.5, 1.15, LANES, 1)
    c.text(16.8, 1.65, "16 rows' losses", 8)
    c.note(0.5, 0.45, "A logarithm or a division serves 16 rows at once; four tiles go through these steps together.")
    c.save("row-per-lane")


def transpose():
    c = Canvas(21, 12.4)
    c.text(0.5, 11.8, "16 loads of 16 bytes fill four registers: each 128-bit block comes from another row", 9, weight="bold")
    for k in range(4):
        y = 10.3 - 1.25 * k
        for block in range(4):
            row = 4 * block + k
            c.cells(0.5 + 4 * block, y, [f"{row},{j}" for j in range(4)], [ROWS[j] for j in range(4)])
        for block in range(4):
            c.frame(0.5 + 4 * block, y, 4, 1)
        c.text(16.8, y + 0.5, f"rows {k}, {4 + k}, {8 + k}, {12 + k}", 8)
    c.arrow((8.5, 6.45), (8.5, 5.6))
    c.text(9, 6, "8 shuffles within the 128-bit blocks", 8)
    for j in range(4):
        y = 4.5 - 1.25 * j
        c.cells(0.5, y, [f"{i},{j}" for i in range(LANES)], ROWS[j])
        c.frame(0.5, y, LANES, 1)
        c.text(16.8, y + 0.5, f"class {j}", 8)
    c.save("transpose")


def channels_first():
    c = Canvas(21, 17.2)
    c.text(0.5, 16.6, "Memory of one image: C planes of H x W positions", 9, weight="bold")
    for j in range(3):
        c.cell(0.5, 15 - 1.25 * j, f"class {j}: positions 0, 1, 2, ... contiguous", ROWS[j], width=LANES, size=8)
        c.frame(0.5, 15 - 1.25 * j, 4, 1)
        c.text(2.5, 15.5 - 1.25 * j, "64 positions", 8, "center")
    c.arrow((2.5, 12.4), (2.5, 11.55))
    c.text(3, 12, "plain loads: neighbouring positions are neighbouring lanes, no transpose", 8)
    for j in range(3):
        y = 10.4 - 1.25 * j
        c.cells(0.5, y, [f"{i},{j}" for i in range(LANES)], ROWS[j])
        c.frame(0.5, y, LANES, 1)
        c.text(16.8, y + 0.5, f"class {j}", 8)
    c.text(0.5, 6.9, "The double-buffered pipeline: three blocks of four tiles (64 positions), one per role", 9, weight="bold")
    for step in range(4):
        x = 3.2 + 4.35 * step
        c.text(x + 2, 6.05, f"step {step}", 8, "center", colour=GREY)
        for row, (shift, colour) in enumerate([(1, GREEN), (0, ORANGE), (-1, BLUE)]):
            block = step + shift
            c.cell(x, 4.6 - 1.2 * row, f"block {block}" if block >= 0 else "", colour if block >= 0 else "white", width=4.1, size=8)
    for row, name in enumerate(["load", "exp, sums", "store"]):
        c.text(0.5, 5.1 - 1.2 * row, name, 8, weight="bold")
    c.note(0.5, 1.35, "Within a step: after every four exponentials, one class of the next block is loaded and one class of the")
    c.note(0.5, 0.65, "previous block's gradient is stored. Memory and arithmetic work at the same time.")
    c.save("channels-first")


def per_target():
    c = Canvas(21, 13.6)
    c.text(0.5, 13, "Memory: each row has one logit that is needed, that of its target", 9, weight="bold")
    targets = [3, 0, 6, 2]
    for i, y in enumerate(targets):
        top = 11.4 - 1.15 * i
        c.cells(0.5, top, [f"{i},{j}" for j in range(LANES)], [RED if j == y else "white" for j in range(LANES)])
        c.text(16.8, top + 0.5, f"target {y}", 8)
    c.arrow((8.5, 7.85), (8.5, 6.95))
    c.text(9, 7.4, "one scalar load per row, at a class number that has been checked", 8)
    losses = [f"l{i}" for i in range(LANES)]
    c.cells(0.5, 5.8, losses, [RED] * 4 + [PALE] * (LANES - 4))
    c.text(16.8, 6.3, "512 losses in L1", 8)
    c.note(0.5, 5.35, "l = -scale * x[i, target]")
    c.arrow((8.5, 5.75), (8.5, 4.65))
    c.text(9, 5.1, "vector loads", 8)
    c.cells(0.5, 3.5, losses, PURPLE)
    c.frame(0.5, 3.5, LANES, 1)
    c.text(16.8, 4, "register: 16 losses", 8)
    c.arrow((8.5, 3.45), (8.5, 2.65))
    c.text(9, 3.05, "add in a fixed order, in float64", 8)
    c.cell(7, 1.6, "sum of 512 rows", ORANGE, width=3, size=7)
    c.note(0.5, 0.75, "Each red cell lies in a cache line of its own: memory moves 64 bytes for 4. With classes on another axis, the lines")
    c.note(0.5, 0.2, "are prefetched 128 to 192 positions ahead.")
    c.save("per-target")


def fused():
    c = Canvas(21, 12.2)
    c.text(0.5, 11.6, "General path: one kernel per step, with Python between them", 9, weight="bold")
    steps = ["check targets", "losses, gradients", "add losses"]
    for k, name in enumerate(steps):
        c.cell(0.5 + 7 * k, 9.9, name, [PURPLE, BLUE, ORANGE][k], width=5.2, size=8.5)
        if k < 2:
            c.cell(5.9 + 7 * k, 10.05, "Python", "white", width=1.4, height=0.7, size=6.5, edge=GREY)
    c.text(0.5, 8.7, "Fused path with a gradient: one kernel, the same three steps", 9, weight="bold")
    c.cell(0.5, 7, "check targets: calling thread", PURPLE, width=6.2, size=7.5)
    c.cell(6.7, 7, "losses, gradients: all threads", BLUE, width=7.6, size=7.5)
    c.cell(14.3, 7, "add losses: calling thread", ORANGE, width=5.9, size=7.5)
    c.frame(0.5, 7, 19.7, 1)
    c.text(0.5, 5.8, "Fused sum without a gradient: each thread repeats all steps on 2048 rows, in its first-level cache", 9, weight="bold")
    for thread in range(2):
        y = 4 - 1.4 * thread
        for k in range(4):
            x = 2.6 + 4.4 * k
            for part, (name, colour) in enumerate([("check", PURPLE), ("loss", BLUE), ("add", ORANGE)]):
                c.cell(x + 1.4 * part, y, name, colour, width=1.4)
            c.frame(x, y, 4.2, 1)
        c.text(0.5, y + 0.5, f"thread {thread}", 8)
    c.note(0.5, 1.6, "A sum writes no array, so targets need no check beforehand: a wrong target makes the kernel return False,")
    c.note(0.5, 0.9, "and the general path raises the error.")
    c.save("fused-loss")


def gpu():
    c = Canvas(21, 17.4)
    c.text(0.5, 16.8, "rows/: classes contiguous. A thread group shares a row; one thread holds 16 bytes per step", 9, weight="bold")
    for k in range(LANES):
        c.cell(0.5 + k, 15.2, f"{4 * k}-{4 * k + 3}", ROWS[k % 4], size=5.5)
    c.text(16.8, 15.7, "classes in memory", 8)
    for k in range(LANES):
        c.arrow((1 + k, 15.15), (1 + k, 14.35))
        c.cell(0.5 + k, 13.3, f"t{k}", ROWS[k % 4])
    c.text(16.8, 13.8, "16 of a warp", 8)
    c.arrow((8.5, 13.2), (8.5, 12.4))
    c.text(9, 12.8, "maximum and sum: lanes (shuffle), then warps and blocks (shared memory)", 7.5)
    c.cell(7, 11.3, "m, s", ORANGE, width=3, size=9)
    c.note(0.5, 10.5, "Group by row length: part of a warp, a warp, a block, a cluster of up to 8 blocks. The row stays in registers.")
    c.text(0.5, 9.2, "channels_first/: positions contiguous. A thread per position, or per few neighbours", 9, weight="bold")
    for j in range(3):
        c.cells(0.5, 7.6 - 1.15 * j, [f"{i},{j}" for i in range(LANES)], [ROWS[i % 4] for i in range(LANES)])
        c.text(16.8, 8.1 - 1.15 * j, f"class {j}", 8)
    for k in range(LANES):
        c.arrow((1 + k, 5.25), (1 + k, 4.5))
        c.cell(0.5 + k, 3.45, f"t{k}", ROWS[k % 4])
    c.text(16.8, 3.95, "threads", 8)
    c.note(0.5, 2.6, "Few classes (registers.py): the thread keeps its column in registers. Memory is read once.")
    c.note(0.5, 1.85, "Many classes (online_softmax.py): the thread keeps (m, rest) and rescales rest when the maximum grows.")
    c.note(0.5, 1.1, "A second pass, from the last class back, writes the result: the caches still hold the end of the column.")
    c.save("gpu")


def main():
    for draw in (vector_per_row, row_per_lane, transpose, channels_first, per_target, fused, gpu):
        draw()


if __name__ == "__main__":
    main()
