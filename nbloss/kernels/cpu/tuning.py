"""Every number of the CPU half that trades speed, each with its unit, what was measured, and when.

This module imports no Numba: a call whose kernels are on disk needs none of their sources. `MACHINE` depends on the machine. Compiled
code reads it when it runs (``nontemporal.machine_tuning``), so that one file of machine code fits every machine of a processor level.

Measured on two cores of an Intel Xeon (Sapphire Rapids, AVX-512) in float32, where nothing else is said. "0.8" means: with this number a
call takes 0.8 of the time. ``docs/decisions/`` has the experiments.
"""

import ctypes
from pathlib import Path

# ------------------------------ which algorithm (choose.py) ------------------------------

# Classes. Contiguous rows with at most this many classes go one row per lane; longer ones go vector per row. At 48 both take equally
# long; at 64 the vector per row takes half the time (2026-11-22).
LANES_MAX_CLASSES = 48

# Positions. Images with fewer positions go one row per lane: a pipelined block would be mostly tail (2026-11-23).
CHANNELS_MIN_POSITIONS = 64

# Classes. From this number on, the gradient of log_softmax of transposed logits writes whole lines of rows: 0.55 to 0.66; with 100
# classes it would be 1.4, as short rows stay in a cache (2026-11-23).
TRANSPOSED_MIN_CLASSES = 192

# Rows. The fused kernels check targets and add losses on the calling thread; with more rows that work is worth several threads:
# (131072, 10) 0.8 (2026-11-23).
FUSED_MAX_ROWS = 262144

# Rows. With more, several threads check the targets of a fused loss: estimated from the time of a wake-up, not raced
# (2026-11-30).
PARALLEL_CHECK_MIN_ROWS = 32768

# ------------------------------ how work is split among threads ------------------------------

# Elements touched by a call. Below, waking a thread (10 to 30 us) costs more than it gains (2026-11-22).
SERIAL_BELOW_ELEMENTS = 98304

# Elements per chunk, at least 20 us of work; taking a chunk costs a thousandth of that. For vector per row; for short rows, where smaller
# chunks shorten the wait for the last one; for channels first, where a chunk reads one run of memory per class (2026-11-22).
CHUNK_ELEMENTS_ROWS, CHUNK_ELEMENTS_SHORT_ROWS, CHUNK_ELEMENTS_CHANNELS = 65536, 16384, 262144

# Rows. A chunk has no fewer, however long they are: what a thread prefetches is its own next row (2026-11-22).
CHUNK_MIN_ROWS = 8

# Elements. One read at an unpredictable offset of a row (the target's) takes as long as this many read in order (2026-11-23).
TARGET_READ_ELEMENTS = 4

# Elements of a kernel of rows that take as long as counting one evaluated row: 6.1 to 7.1 ns a row for 0.45 ns an element of
# cross_entropy with 10 classes, 0.22 to 0.27 ns with 1000 (AMD EPYC, Zen 4, 2026-12-01).
TALLY_ELEMENTS = 16

# ------------------------------ the order of sums: changing these changes results ------------------------------

# Classes per float32 partial sum before it is added in float64. One long float32 sum lost the last digits of peaked rows (2026-11-22).
SUM_BLOCK_CLASSES = 256

# Rows per partial sum of losses or weights: a constant, so that the sum has the same bits for any number of threads.
SUM_GROUP_ROWS = 8192

# Rows that are added first, before their sums are. One long sum of 9000 equal float64 losses was 15 eps off (2026-11-22).
SUM_RUN_ROWS = 512

# ------------------------------ vector per row ------------------------------

# Elements of a group of rows that go through each step together. Groups of 2, 4 and 8 rows of (4096, 1000) took 1.05, 1.15 and 1.1 of
# the time of one row after the other; groups of (16384, 100) 0.8 (2026-11-22).
ROW_GROUP_ELEMENTS = 1024

# Elements that are prefetched ahead of the search for the next row's maximum: cross_entropy of (4096, 1000) 0.87 to 0.93 (2026-11-22).
ROW_PREFETCH_ELEMENTS = 1024

# Bytes. Of a longer row the exponentials are computed twice instead of kept: the row, the next one and the kept ones are more than a
# second cache holds. (128, 128256) 0.91; shorter rows would take 1.03 to 1.06 (2026-11-22).
LONG_ROW_BYTES = 400_000

# ------------------------------ row per lane ------------------------------

# Tiles of a block, at most: 0.8 against 25 tiles, as loads wait for older stores to addresses that end alike (2026-11-22).
BLOCK_MAX_TILES = 12

# Elements of a block: 16 kB of float32, a third of a first cache, as the next block and the output's lines come too (2026-11-22).
BLOCK_ELEMENTS = 4096

# Lines whose distance is a multiple of CACHE_ALIAS_BYTES share one set of a second cache, which has 8 to 20 ways (2026-11-22).
CACHE_WAYS, CACHE_ALIAS_BYTES = 12, 65536

# Classes. Blocks with at most this many classes fit a first cache together with the next one, so all its lines are prefetched (2026-11-22).
PREFETCH_ALL_MAX_CLASSES = 64

# ------------------------------ blocks of rows that are copied ------------------------------

# Elements of a cache line of float32: positions that a copy takes together.
BLOCK_LINE = 16

# Bytes of the buffers of a thread. A block has BLOCK_LINE rows at least, while they are no larger than this.
BLOCK_MAX_BYTES = 8 << 20

# Cache lines that are prefetched before they are transposed.
BLOCK_PREFETCH_LINES = 64

# ------------------------------ channels first ------------------------------

# Tiles that go through the pipeline together. Runs of single lines, instead of four, took three times as long where the class stride
# is 1 MiB (2026-11-23).
PIPELINE_TILES = 4

# Classes that are prefetched before the pipeline loads them (2026-11-23).
PIPELINE_PREFETCH_CLASSES = 6

# Tiles per run of the loss alone: (8, 21, 512, 512) 0.76 (2026-11-23).
LOSS_ONLY_TILES = 16

# Tiles per run, and classes prefetched, of the gradients of log_softmax and softmax. Runs half as long took 1.1 to 1.2 (2026-11-23).
GRADIENT_TILES, GRADIENT_PREFETCH = 16, 2

# Tiles per run of log_softmax of many classes: of 16, the partial sums leave the first cache, and (16384, 100) in Fortran order took 1.15
# (2 cores of an AMD EPYC, Zen 3, AVX2; 2026-11-30).
SUM_TILES = 8

# Classes. A run of log_softmax is read three times, and one of more classes leaves the last cache: (256, 50257) in Fortran order would take
# 1.3 of the time of blocks of rows (Zen 3, 2026-11-30).
RUNS_MAX_CLASSES = 8192

# Positions. The classes of smaller images are near enough for blocks of rows: (8, 1500, 300) would take 1.3 to 1.9 (Zen 3, 2026-11-30).
RUNS_MIN_POSITIONS = 1024

# Classes of a block that is transposed to rows: a line of float32. Blocks of 32 took 1.2 (2026-11-23).
TRANSPOSE_CLASSES = 16

# ------------------------------ per target ------------------------------

# Rows. How far ahead the lines that hold the targets' log-probabilities are prefetched: (8, 21, 512, 512) 0.88 (2026-11-23).
NLL_PREFETCH_ROWS = 192

# Elements that are set to 0 before the targets' gradients are written into them, while they are in a cache (2026-11-23).
ZERO_FILL_ELEMENTS = 32768

# Rows whose scales and losses are in a first cache when the fused sum adds them (2026-11-23).
FUSED_SUM_ROWS = 4 * SUM_RUN_ROWS

# Elements of ``scatter_rows`` that take as long as one of a kernel of rows: a multiplication and an addition each,
# 0.12 ns against 0.5 (2 cores of an AMD EPYC, Zen 4; 2026-12-01).
SCATTER_SPEED = 4

# Columns: four cache lines of float32 of each row, so that a thread reads runs of them. Not measured.
SCATTER_COLUMNS = 64

# ------------------------------ nontemporal stores (nontemporal.py) ------------------------------

# Classes. Aligning a shorter row for nontemporal stores costs more than it gains (2026-11-22).
NONTEMPORAL_MIN_CLASSES = 2048

# Bytes. A vector of narrower numbers is half a cache line: nontemporal stores took 1.1 to 1.36 times as long (2026-11-22).
NONTEMPORAL_MIN_ITEMSIZE = 4

# ------------------------------ this machine's caches ------------------------------


def _cache(level, otherwise, root=Path("/sys/devices/system/cpu/cpu0/cache")):
    """Bytes of a cache, as Linux tells them; ``otherwise`` where nobody does (macOS, Windows, some containers)."""
    try:
        return int((root / f"index{level}" / "size").read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return otherwise


# Bytes. A virtual machine reports the size of the whole last cache of a processor that it shares: of 260 MB, 64 MB of logits and output
# stayed there and 80 MB did not (2026-11-23).
SECOND_CACHE, LAST_CACHE = _cache(2, 1 << 20), min(_cache(3, 32 << 20), 72 << 20)

MACHINE = {
    # Bytes of output from which on it is written with nontemporal stores. Rows: about what the last cache does not hold beside the
    # logits; (256, 50257) 0.68. Long rows sooner, as the output's lines need no place in the second cache: (128, 128256) 0.82. So do
    # channels, whose lines are far apart: (8, 21, 128, 128) 0.82 (2026-11-23).
    "nontemporal_rows": LAST_CACHE // 2,
    "nontemporal_long_rows": LAST_CACHE // 6,
    "nontemporal_channels": 2 * SECOND_CACHE,
    # Elements of a block of four tiles, at most: a quarter of the second cache in float32 (2026-11-22).
    "block_elements": SECOND_CACHE // 16,
}
MACHINE_SYMBOL = "nbloss_machine_tuning"  # the name under which compiled code finds MACHINE_NUMBERS
MACHINE_NUMBERS = (ctypes.c_int64 * len(MACHINE))(*MACHINE.values())

# Numbers in each of the seven buffers with which the second derivatives of mapped logits are computed: 7 MB of float32. Not measured.
MAPPED_HESSIAN_ELEMENTS = 2**18
