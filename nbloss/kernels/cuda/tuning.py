"""Every number of the CUDA backend that trades speed, each with its unit and the reason for its value.

No GPU has run these kernels yet, so no number below was measured. Where the reason is "register counts", the number comes from what the
compiler reports for the cubins of sm_75 to sm_100 (2026-11); ``tests/cuda_offline`` checks those counts.

This module imports nothing, so that ``runtime.plan`` works without CUDA.
"""

# ------------------------------ hardware ------------------------------

# Threads of a warp. The hardware sets this number.
WARP_THREADS = 32

# ------------------------------ one thread per position ------------------------------

# Threads of a block whose threads work alone. 128 threads of up to 255 registers still fit on a multiprocessor twice. Several sums are
# taken over such a block, so a change changes the order of sums, and with it the last bits of results. Not measured.
BLOCK_THREADS = 128

# ------------------------------ contiguous rows (runtime/plan.py) ------------------------------

# Classes. A thread works alone on a row of at most so many, where the rows are adjacent in memory and the operation has such a kernel. With
# 16 float32 or half classes 1024 threads fit on a multiprocessor, and no dtype spills. From register counts of the compiler, 2026-11.
ROW_PER_THREAD_MAX_CLASSES = 16

# Classes. Rows with at most this many classes share a warp, and their numbers are read one by one: vectors would not be aligned. Not
# measured.
ROW_GROUP_MAX_CLASSES = 128

# Numbers of a short row that one thread holds; with 4 a row of 10 classes takes 4 threads, and a warp has 8 rows. Not measured.
ROW_GROUP_NUMBERS_PER_THREAD = 4

# Threads of a block whose rows take a warp or less. As BLOCK_THREADS, but no sum depends on it. Not measured.
ROW_GROUP_BLOCK_THREADS = 128

# Rows per multiprocessor. With fewer rows a warp per row would leave most of the device idle: such rows take a block each. Not measured.
WARP_PER_ROW_MIN_ROWS_PER_MULTIPROCESSOR = 4

# Vectors of 16 bytes that a thread holds: 32 registers, half of what 1024 threads of a multiprocessor have each; 128 KB are then in flight,
# of float32 and of half types. From register counts of the compiler, 2026-11.
HELD_VECTORS_PER_THREAD = 8

# Vectors. A larger number of vectors is rounded up to a multiple of it, so that not every length needs a kernel. Not measured.
HELD_VECTORS_STEP = 8

# Vectors that a thread of a block holds before the block gets more threads. Not measured.
BLOCK_MIN_VECTORS_PER_THREAD = 4

# Threads of the blocks to choose from, smallest first. Of the largest two fit on a multiprocessor, so that one loads while the other
# reduces. From register counts of the compiler, 2026-11.
BLOCK_SIZES_THREADS = (128, 256, 512)

# Threads of a block that has a multiprocessor to itself. The largest block that CUDA allows.
BLOCK_MAX_THREADS = 1024

# Blocks of a cluster to choose from, smallest first (sm_90 and later). 8 is the largest size that every such device supports.
CLUSTER_SIZES_BLOCKS = (2, 4, 8)

# Threads of a multiprocessor that have 128 registers each (65536 registers in all). Kernels that need registers for more than the row run
# with so many. So do rows that take a warp or less: with a whole row of loads in flight, fewer warps keep the memory busy. From register
# counts of the compiler, 2026-11.
THREADS_WITH_128_REGISTERS = 512

# ------------------------------ channels first ------------------------------

# Classes that one thread holds, each in a register (float64: two). With 32 float32 classes the kernels stay below 128 registers, those for
# probabilities below 255, and nothing spills. From register counts of the compiler, 2026-11.
REGISTER_MAX_CLASSES = 32

# Bytes that one access moves if a thread takes several neighbouring positions, the first choice first. Not measured.
POSITIONS_ACCESS_BYTES = (16, 8)

# Bytes of logits that a thread with several positions holds, by the bytes of a number. With 512 such threads on a multiprocessor, each with
# 128 registers, nothing spills but log_softmax of float16 on sm_100; 64 KB or more are in flight (float64: 48). From register counts of the
# compiler, 2026-11.
POSITIONS_MAX_BYTES = {2: 168, 4: 256, 8: 128}

# Classes of the online softmax whose loads are in flight together, each in a register. From register counts of the compiler, 2026-11.
CHUNK_CLASSES = 16

# ------------------------------ the order of sums: a change changes results ------------------------------

# Numbers that one thread adds before the threads of its block add their sums. Not measured.
SUM_NUMBERS_PER_THREAD = 32

# Bytes of logits. Up to so many, and up to 4096 losses, the kernel of the rows also adds the losses: each block counts itself when it is
# done, which takes about a microsecond, and the last one adds. For more bytes the time of another launch is hidden by the work. Not
# measured.
SUM_BY_LAST_BLOCK_MAX_BYTES = 64 << 20

# ------------------------------ memory ------------------------------

# Bytes of freed memory that the pool of a device keeps when the device is waited for; more goes back to the driver, where other libraries
# can have it. Scratch memory of a call has one to three numbers per position: this is that of some 5 million positions. Not measured.
POOL_KEEPS_BYTES = 64 << 20
