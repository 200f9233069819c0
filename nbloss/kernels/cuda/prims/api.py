"""Primitives that Python cannot express: memory access in vectors, half types, lanes of a warp, single instructions.

They exist twice, with the same names: in ``hardware`` (LLVM IR and PTX, for numba-cuda's compiler) and in ``simulator`` (NumPy, for its
simulator, NUMBA_ENABLE_CUDASIM=1). A kernel that accesses memory, other lanes and bits only through these names has one source for both.

Pointers p are ``CPointer`` of the stored type on hardware and flat arrays in the simulator. Offsets i count elements, in int64. Logits are
stored as float64, float32, uint16 (float16) or int16 (bfloat16). The computed type is float64 for float64, otherwise float32. A word is
what one register holds of a vector: one float64, one float32, or two half numbers in a uint32.

==================================  ==================================================================================================
``get(p, i)``, ``put(p, i, v)``     load and store one number, in the computed type
``pointer(shared)``                 a pointer to an array in the shared memory of the block, for the following
``get_in_block``, ``put_in_block``  ``get`` and ``put`` there; ``put_in_block_old`` before sm_80
``vector_in_block``                 ``vector`` there, and ``put_vector_in_block``
``move(p, i, q, j)``                q[j] = p[i] as stored; either may be in shared memory
``get_shared(p, i)``                load what other blocks have just written: it bypasses the L1 cache
``integer(p, i)``                   load a signed integer of any size as int64;  ``put_integer(p, i, v)`` stores the lower bits of an int64
``vector(p, i)``                    load 16 aligned bytes as a tuple of words;  ``put_vector(p, i, words)``
``short_vector(p, i)``              the same with 8 bytes;  ``put_short_vector(p, i, words)``
``unpack(p, word)``                 the numbers of a word (a tuple of 1 or 2);  ``pack(p, numbers)``, ``pack_old`` before sm_80
``maximum(a, b)``                   the larger; nan if either is nan;  ``maximum_old`` before sm_80
``larger_words(p, a, b)``           ``maximum`` of the numbers of two words (sm_80 and later)
``fma``, ``exp2``                   a * b + c rounded once; 2**x of float32 in one instruction (2 ulp; results below 2**-126 are 0)
``fma_limited(a, b, c)``            the same within [0, 1]; 0 instead of nan; float32
``exp``, ``expm1``, ``log1p``       accurate, from libdevice;  ``power(x, y)`` is x**y for x >= 0
``power2(x, z, k)``                 x * 2**(n + k), where z = 1.5 * 2**23 + n holds n in its low bits; float32, n + k in [-126, 127]
``add_exponent(x, z)``              x * 2**n with z as above, by an integer addition; no number where x or the result is not normal
``shuffle_xor(v, mask)``            the value of lane ^ mask;  ``barrier()`` of the block
``cluster_rank()``                  of this block (sm_90 and later);  ``cluster_put(shared, i, rank, v)`` writes to block ``rank``
``cluster_arrive``, ``..._wait``    the two halves of the barrier of a cluster; a warp arrives with one instruction
``cluster_arrive_relaxed``          the first half without a memory fence: the others need not see what the thread wrote before it
``add_integer(p, i, v)``            atomic on int64, returns the old value;  ``min_integer``, ``swap_integer(p, i, old, new)``
``fence()``                         other blocks see the writes before it before the writes after it;  ``host_fence()``: also the host
``bits``, ``number``                a float64 as int64 and back
``device``                          the decorator of functions that kernels call
==================================  ==================================================================================================
"""

from numba.cuda.core import config

SIMULATED = bool(config.ENABLE_CUDASIM)

if SIMULATED:
    from nbloss.kernels.cuda.prims import simulator as form
else:
    from nbloss.kernels.cuda.prims import hardware as form
add_exponent = form.add_exponent
add_integer = form.add_integer
barrier = form.barrier
bits = form.bits
cluster_arrive = form.cluster_arrive
cluster_arrive_relaxed = form.cluster_arrive_relaxed
cluster_put = form.cluster_put
cluster_rank = form.cluster_rank
cluster_wait = form.cluster_wait
device = form.device
exp = form.exp
exp2 = form.exp2
expm1 = form.expm1
fence = form.fence
fma = form.fma
fma_limited = form.fma_limited
get = form.get
get_in_block = form.get_in_block
get_shared = form.get_shared
host_fence = form.host_fence
integer = form.integer
larger_words = form.larger_words
log1p = form.log1p
maximum = form.maximum
maximum_old = form.maximum_old
min_integer = form.min_integer
move = form.move
number = form.number
pack = form.pack
pack_old = form.pack_old
pointer = form.pointer
power = form.power
power2 = form.power2
put = form.put
put_in_block = form.put_in_block
put_in_block_old = form.put_in_block_old
put_integer = form.put_integer
put_short_vector = form.put_short_vector
put_vector = form.put_vector
put_vector_in_block = form.put_vector_in_block
short_vector = form.short_vector
shuffle_xor = form.shuffle_xor
swap_integer = form.swap_integer
unpack = form.unpack
vector = form.vector
vector_in_block = form.vector_in_block
