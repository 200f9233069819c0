"""Draw what happens around the kernels: blocks of other layouts, the cache of compiled kernels, chunks of threads, chunks of a last layer.

python docs/figures/execution.py          needs matplotlib; writes layouts.svg, cache.svg, threads.svg and linear.svg
"""

from canvas import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, ROWS, Canvas


def layouts():
    c = Canvas(21, 14)
    c.text(0.5, 13.4, "Memory: classes on the first axis, so the positions of one class are contiguous", 9, weight="bold")
    for j in range(6):
        for i in range(8):
            inside = i < 4 and j < 4
            c.cell(0.5 + i, 11.6 - j, f"{i},{j}", ROWS[j] if inside else "white")
    c.frame(0.5, 8.6, 4, 4)
    c.text(8.8, 11.9, 'Cell "i,j": position i, class j.', 7.5, colour=GREY)
    c.text(8.8, 11.1, "A line of the drawing is contiguous in memory.", 7.5, colour=GREY)
    c.text(8.8, 9.9, "Framed: a square of 16 x 16 numbers (here 4 x 4).", 8)
    c.text(8.8, 9.1, "Each of its lines is one whole cache line of 64 bytes.", 8)
    c.arrow((2.5, 6.4), (2.5, 5.5))
    c.text(3, 5.95, "copy to a tile in the first-level cache, then transpose in registers", 8)
    c.text(0.5, 4.95, "Buffer of the thread: a row per position, classes contiguous", 9, weight="bold")
    for i in range(4):
        for j in range(8):
            c.cell(0.5 + j, 3.5 - i, f"{i},{j}" if j < 6 else "", ROWS[j] if j < 4 else "white")
    c.text(8.8, 4.0, "As many rows as fit half of the second-level cache.", 8)
    c.text(8.8, 3.0, "The kernel of long rows runs on the buffer:", 8)
    c.text(8.8, 2.3, "the same sums in the same order as for contiguous rows.", 8)
    c.text(8.8, 1.3, "A result of this layout goes back in the same way.", 8)
    c.save("layouts")


def cache():
    c = Canvas(21, 14.6)
    c.text(0.5, 14, "From the name of a kernel to its machine code", 9, weight="bold")
    c.box(0.5, 11.0, 6.2, 2.2, "choose", ["layout, dtype, options", "-> the kernel's name"], BLUE)
    steps = [
        (7.8, "In this process?", ["a dict of kernels", "that were called"], GREEN, "called at once"),
        (4.6, "On disk?", ["this processor's file,", "then each level's"], GREEN, "link, call: 2 to 3 ms"),
        (1.6, "Compile", ["Numba, then LLVM"], ORANGE, "seconds, once per machine"),
    ]
    c.arrow((3.6, 10.95), (3.6, 10.05))
    for k, (y, name, lines, colour, cost) in enumerate(steps):
        c.box(0.5, y, 6.2, 2.2, name, lines, colour)
        c.arrow((6.8, y + 1.1), (15.1, y + 1.1))
        c.box(15.2, y + 0.25, 5.3, 1.7, "machine code", [cost], PALE)
        c.text(7.1, y + 1.55, "yes" if k < 2 else "", 8, colour=GREY)
        if k < 2:
            c.arrow((3.6, y - 0.05), (3.6, y - 0.75 if k else y - 0.95))
            c.text(3.9, y - 0.5, "no", 8, colour=GREY)
    c.box(8.5, 4.9, 5.8, 1.6, "cache folder, package", ["<stamp>/<target>/<name>.kernel"], PURPLE, size=8, small=7)
    c.arrow((6.8, 3.4), (10.5, 4.85), bend=0.15, dashed=True)
    c.text(10.3, 3.95, "store", 8, colour=GREY)
    c.note(
        0.5, 0.95, "stamp: all kernel sources, Python's binary interface, the series of Numba and llvmlite. target: a processor or a level."
    )
    c.note(0.5, 0.3, "A changed source gives another stamp, so a file of older sources is never found.")
    c.save("cache")


def threads():
    c = Canvas(21, 9.6)
    c.text(0.5, 9, "The positions of a call, cut into chunks", 9, weight="bold")
    colours = [*ROWS, PALE, "#f6bdbd", "#bfe7ea"]
    for k in range(7):
        c.cell(0.5 + 2.85 * k, 7.5, f"chunk {k}", colours[k], width=2.85, size=8)
    c.text(0.5, 6.4, "Time: a thread that is done takes the next number from the counter", 9, weight="bold")
    plans = [(0, [(0, 2.9), (2, 2.9), (3, 2.9), (5, 2.9), (6, 2.9)]), (1, [(1, 7.2), (4, 6.2)])]
    for thread, chunks in plans:
        x, y = 2.9, 4.9 - 1.5 * thread
        c.text(0.5, y + 0.5, f"thread {thread}", 8)
        for k, width in chunks:
            c.cell(x, y, f"chunk {k}", colours[k], width=width, size=8)
            c.frame(x, y, width, 1)
            x += width
    c.text(0.5, 2.65, "counter", 8)
    for number, x in enumerate([2.9, 2.9, 5.8, 8.7, 10.1, 11.6, 14.5]):
        if number > 1:
            c.text(x, 2.65, f"-> {number}", 8, "center", colour=GREY)
    c.text(2.9, 2.65, "-> 0, 1", 8, "left", colour=GREY)
    c.arrow((2.9, 2.0), (20.2, 2.0))
    c.text(20.2, 1.6, "time", 8, "right", colour=GREY)
    c.note(
        0.5,
        0.9,
        "Here the core of thread 1 is slow: it gets two chunks, and thread 0 gets five. The losses are per row, so the bits of the",
    )
    c.note(0.5, 0.3, "result do not depend on which thread had a chunk.")
    c.save("threads")


def linear():
    c = Canvas(21, 14.2)
    c.text(0.5, 13.6, "One chunk of rows at a time: its logits are the only large array beside the results", 9, weight="bold")

    def matrix(x, y, width, height, name, colour, chunk=None):
        c.cell(x, y, "", PALE, width=width, height=height)
        if chunk:
            c.cell(x, y + height - 2 * chunk, "", colour, width=width, height=chunk)
        else:
            c.cell(x, y, "", colour, width=width, height=height)
        c.text(x + width / 2, y + height + 0.4, name, 8, "center", "bold")

    matrix(0.5, 7.6, 2.2, 4.8, "input (N, D)", BLUE, 1.2)
    c.text(3.3, 10.6, "@", 11, "center")
    matrix(3.9, 10.0, 7, 2.2, "weight transposed (D, C)", GREEN)
    c.text(11.5, 10.6, "=", 11, "center")
    matrix(12.1, 10.0, 7, 1.2, "logits of the chunk (n, C)", ORANGE)
    c.note(12.1, 9.5, "at most max_memory (default 128 MiB)")
    c.arrow((15.6, 9.1), (15.6, 8.1))
    c.text(15.2, 8.6, "losses; gradient in place of the logits", 8, "right")
    c.cell(12.1, 6.7, "gradient of the chunk's logits (n, C)", PURPLE, width=7, height=1.2, size=8)
    c.arrow((12.0, 6.9), (7.2, 5.3))
    c.text(8.9, 6.7, "@ weight", 8, "right")
    c.arrow((15.6, 6.6), (15.6, 5.1))
    c.text(15.9, 5.8, "transposed @ input", 8)
    matrix(4.9, 1.6, 2.2, 4.2, "gradient of input", BLUE, 1.05)
    c.note(4.3, 1.1, "the chunk's rows are written")
    matrix(14.3, 1.6, 2.6, 2.7, "gradient of weight (C, D)", GREEN)
    c.note(12.1, 1.1, "every chunk is added, in tiles of 2048 classes")
    c.note(0.5, 0.45, "The whole array of logits (N, C) and its gradient never exist.")
    c.save("linear")


def main():
    for draw in (layouts, cache, threads, linear):
        draw()


if __name__ == "__main__":
    main()
