"""The primitives for hardware. No other file contains LLVM IR or PTX.

Numba emits scalar loads for vector types, for records and for adjacent elements; only an intrinsic gives the 16-byte instructions. Loads
that bypass the L1 cache, and stores that the L2 cache evicts first, are PTX.
"""

import math

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))

HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()

BFLOAT16_NAN = 0x7FFF

device = cuda.jit(device=True, forceinline=True)  # a call would move the registers of a row to memory


def _computed(pointer):
    """The computed type of the numbers behind a pointer."""
    return types.float64 if pointer.dtype == types.float64 else types.float32


def _word(pointer):
    return types.uint32 if pointer.dtype.bitwidth == 16 else pointer.dtype


def _count(pointer):
    """Numbers per word."""
    return 2 if pointer.dtype.bitwidth == 16 else 1


def _is_half(pointer):
    """Whether a stored half type is float16 (uint16); otherwise it is bfloat16 (int16)."""
    return not pointer.dtype.signed


def _inline(builder, result, operands, text, constraints, effect=False, attributes=()):
    function = ir.FunctionType(result, [value.type for value in operands])
    return builder.call(ir.InlineAsm(function, text, constraints, side_effect=effect), operands, attrs=attributes)


def _address(builder, args):
    return builder.ptrtoint(builder.gep(args[0], [args[1]]), I64)


def _from_bits(builder, pointer, bits):
    """16 bits, zero-extended to 32, as float32."""
    if _is_half(pointer):
        return builder.fpext(builder.bitcast(builder.trunc(bits, I16), HALF), FLOAT)
    return builder.bitcast(builder.shl(bits, I32(16)), FLOAT)


def _to_bits(builder, pointer, value):
    """A float32 as 16 bits, rounded to nearest even and zero-extended to 32. bfloat16 takes integer instructions only."""
    if _is_half(pointer):
        return builder.zext(builder.bitcast(builder.fptrunc(value, HALF), I16), I32)
    bits = builder.bitcast(value, I32)
    odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
    rounded = builder.lshr(builder.add(builder.add(bits, I32(0x7FFF)), odd), I32(16))
    return builder.select(builder.fcmp_unordered("uno", value, value), I32(BFLOAT16_NAN), rounded)


@intrinsic
def get(typingctx, p, i):
    def codegen(context, builder, sig, args):
        address = builder.gep(args[0], [args[1]])
        if p.dtype.bitwidth > 16:
            return builder.load(address, align=p.dtype.bitwidth // 8)
        return _from_bits(builder, p, builder.zext(builder.load(address, align=2), I32))

    return _computed(p)(p, types.int64), codegen


@intrinsic
def get_shared(typingctx, p, i):
    """ld.volatile: another block may have written the number while this kernel was running."""

    def codegen(context, builder, sig, args):
        kind, letter, result = {
            types.float32: ("f32", "f", FLOAT),
            types.float64: ("f64", "d", DOUBLE),
            types.int64: ("s64", "l", I64),
        }[p.dtype]
        return _inline(builder, result, [_address(builder, args)], f"ld.volatile.global.{kind} $0, [$1];", f"={letter},l,~{{memory}}", True)

    return p.dtype(p, types.int64), codegen


@intrinsic
def put(typingctx, p, i, v):
    def codegen(context, builder, sig, args):
        address = builder.gep(args[0], [args[1]])
        if p.dtype.bitwidth > 16:
            builder.store(args[2], address, align=p.dtype.bitwidth // 8)
        else:
            builder.store(builder.trunc(_to_bits(builder, p, args[2]), I16), address, align=2)
        return context.get_dummy_value()

    return types.void(p, types.int64, _computed(p)), codegen


@intrinsic
def get_in_block(typingctx, p, i):
    """float16 is converted by PTX: NVVM would join eight of them to one vector, for which it has no code before sm_100."""

    def codegen(context, builder, sig, args):
        address = builder.gep(args[0], [args[1]])
        if p.dtype.bitwidth > 16:
            return builder.load(address, align=p.dtype.bitwidth // 8)
        bits = builder.load(address, align=2)
        if _is_half(p):
            return _inline(builder, FLOAT, [bits], "cvt.f32.f16 $0, $1;", "=f,h")
        return _inline(builder, FLOAT, [I16(0), bits], "mov.b32 $0, {$1, $2};", "=f,h,h")

    return _computed(p)(p, types.int64), codegen


def _make_put_in_block(has_instruction):
    @intrinsic
    def put_in_block(typingctx, p, i, v):
        def codegen(context, builder, sig, args):
            address = builder.gep(args[0], [args[1]])
            if p.dtype.bitwidth > 16:
                builder.store(args[2], address, align=p.dtype.bitwidth // 8)
                return context.get_dummy_value()
            if _is_half(p):
                bits = _inline(builder, I16, [args[2]], "cvt.rn.f16.f32 $0, $1;", "=h,f")
            elif has_instruction:
                bits = builder.trunc(_inline(builder, I32, [FLOAT(0), args[2]], "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f"), I16)
            else:
                bits = builder.trunc(_to_bits(builder, p, args[2]), I16)
            builder.store(bits, address, align=2)
            return context.get_dummy_value()

        return types.void(p, types.int64, _computed(p)), codegen

    return put_in_block


put_in_block, put_in_block_old = _make_put_in_block(True), _make_put_in_block(False)


@intrinsic
def move(typingctx, p, i, q, j):
    def codegen(context, builder, sig, args):
        size = p.dtype.bitwidth // 8
        builder.store(builder.load(builder.gep(args[0], [args[1]]), align=size), builder.gep(args[2], [args[3]]), align=size)
        return context.get_dummy_value()

    return types.void(p, types.int64, p, types.int64), codegen


@intrinsic
def integer(typingctx, p, i):
    def codegen(context, builder, sig, args):
        value = builder.load(builder.gep(args[0], [args[1]]), align=p.dtype.bitwidth // 8)
        return value if p.dtype.bitwidth == 64 else builder.sext(value, I64)

    return types.int64(p, types.int64), codegen


@intrinsic
def put_integer(typingctx, p, i, v):
    def codegen(context, builder, sig, args):
        value = args[2] if p.dtype.bitwidth == 64 else builder.trunc(args[2], ir.IntType(p.dtype.bitwidth))
        builder.store(value, builder.gep(args[0], [args[1]]), align=p.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(p, types.int64, types.int64), codegen


_PTX = {types.float32: ("f32", "f", FLOAT), types.float64: ("f64", "d", DOUBLE), types.uint32: ("b32", "r", I32)}


def _vector_type(pointer, size):
    """The tuple of the words in ``size`` bytes."""
    word = _word(pointer)
    return types.UniTuple(word, 8 * size // word.bitwidth)


def _make_vector(size):
    @intrinsic
    def vector(typingctx, p, i):
        words = _vector_type(p, size)

        def codegen(context, builder, sig, args):
            (kind, letter, element), count = _PTX[words.dtype], len(words)
            names = ",".join(f"${k}" for k in range(count))
            text = f"ld.global.L1::no_allocate.v{count}.{kind} {{{names}}}, [${count}];"
            constraints = f"={letter}," * count + "l,~{memory}"  # the load must stay before stores: out may be x
            loaded = _inline(builder, ir.LiteralStructType([element] * count), [_address(builder, args)], text, constraints, True)
            return context.make_tuple(builder, sig.return_type, [builder.extract_value(loaded, k) for k in range(count)])

        return words(p, types.int64), codegen

    return vector


vector, short_vector = _make_vector(16), _make_vector(8)


def _make_put_vector(size):
    @intrinsic
    def put_vector(typingctx, p, i, words):
        stored = _vector_type(p, size)

        def codegen(context, builder, sig, args):
            (kind, letter, _), count = _PTX[stored.dtype], len(stored)
            names = ",".join(f"${k + 1}" for k in range(count))
            values = [builder.extract_value(args[2], k) for k in range(count)]
            text = f"st.global.cs.v{count}.{kind} [$0], {{{names}}};"
            _inline(builder, ir.VoidType(), [_address(builder, args), *values], text, "l," + f"{letter}," * count + "~{memory}", True)
            return context.get_dummy_value()

        return types.void(p, types.int64, stored), codegen

    return put_vector


put_vector, put_short_vector = _make_put_vector(16), _make_put_vector(8)


@intrinsic
def pointer(typingctx, shared):
    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, value=args[0]).data

    return types.CPointer(shared.dtype)(shared), codegen


def _vector_address(builder, words, args):
    """The address of a vector of these words. The compiler itself finds that the pointer is to shared memory."""
    vector_type = ir.VectorType(_PTX[words.dtype][2], len(words))
    return builder.bitcast(builder.gep(args[0], [args[1]]), vector_type.as_pointer())


@intrinsic
def vector_in_block(typingctx, p, i):
    words = _vector_type(p, 16)

    def codegen(context, builder, sig, args):
        loaded = builder.load(_vector_address(builder, words, args), align=16)
        return context.make_tuple(builder, sig.return_type, [builder.extract_element(loaded, I32(k)) for k in range(len(words))])

    return words(p, types.int64), codegen


@intrinsic
def put_vector_in_block(typingctx, p, i, words):
    stored = _vector_type(p, 16)

    def codegen(context, builder, sig, args):
        address = _vector_address(builder, stored, args)
        value = ir.Constant(address.type.pointee, ir.Undefined)
        for k in range(len(stored)):
            value = builder.insert_element(value, builder.extract_value(args[2], k), I32(k))
        builder.store(value, address, align=16)
        return context.get_dummy_value()

    return types.void(p, types.int64, stored), codegen


@intrinsic
def unpack(typingctx, p, word):
    def codegen(context, builder, sig, args):
        if _count(p) == 1:
            values = [args[1]]
        elif _is_half(p):
            values = [_from_bits(builder, p, builder.and_(args[1], I32(0xFFFF))), _from_bits(builder, p, builder.lshr(args[1], I32(16)))]
        else:
            high = builder.bitcast(builder.and_(args[1], I32(0xFFFF0000)), FLOAT)
            values = [builder.bitcast(builder.shl(args[1], I32(16)), FLOAT), high]
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(_computed(p), _count(p))(p, _word(p)), codegen


def _make_pack(has_instruction):
    @intrinsic
    def pack(typingctx, p, numbers):
        def codegen(context, builder, sig, args):
            values = [builder.extract_value(args[1], k) for k in range(_count(p))]
            if _count(p) == 1:
                return values[0]
            if has_instruction:
                kind = "f16x2" if _is_half(p) else "bf16x2"
                return _inline(builder, I32, values, f"cvt.rn.{kind}.f32 $0, $2, $1;", "=r,f,f")
            low, high = (_to_bits(builder, p, value) for value in values)
            return builder.or_(low, builder.shl(high, I32(16)))

        return _word(p)(p, types.UniTuple(_computed(p), _count(p))), codegen

    return pack


pack, pack_old = _make_pack(True), _make_pack(False)


def _maximum_ptx(builder, a, b, kind):
    return _inline(builder, a.type, [a, b], f"max.NaN.{kind} $0, $1, $2;", "=f,f,f" if kind == "f32" else "=r,r,r")


def _maximum_selected(builder, a, b):
    """nan if either is nan: (a > b or a is nan) ? a : b."""
    chosen = builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))
    return builder.select(chosen, a, b)


def _make_maximum(has_instruction):
    @intrinsic
    def maximum(typingctx, a, b):
        def codegen(context, builder, sig, args):
            if has_instruction and sig.return_type == types.float32:
                return _maximum_ptx(builder, *args, "f32")
            return _maximum_selected(builder, *args)

        return a(a, a), codegen

    return maximum


maximum, maximum_old = _make_maximum(True), _make_maximum(False)


@intrinsic
def larger_words(typingctx, p, a, b):
    def codegen(context, builder, sig, args):
        if _count(p) == 2:
            return _maximum_ptx(builder, args[1], args[2], "f16x2" if _is_half(p) else "bf16x2")
        if _word(p) == types.float32:
            return _maximum_ptx(builder, args[1], args[2], "f32")
        return _maximum_selected(builder, args[1], args[2])

    return _word(p)(p, _word(p), _word(p)), codegen


@intrinsic
def fma(typingctx, a, b, c):
    def codegen(context, builder, sig, args):
        name = "llvm.fma.f64" if sig.return_type == types.float64 else "llvm.fma.f32"
        number = args[0].type
        function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(number, [number] * 3), name)
        return builder.call(function, args)

    return a(a, a, a), codegen


@intrinsic
def fma_limited(typingctx, a, b, c):
    def codegen(context, builder, sig, args):
        return _inline(builder, FLOAT, args, "fma.rn.sat.f32 $0, $1, $2, $3;", "=f,f,f,f")

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def exp2(typingctx, x):
    def codegen(context, builder, sig, args):
        return _inline(builder, FLOAT, [args[0]], "ex2.approx.ftz.f32 $0, $1;", "=f,f")

    return types.float32(types.float32), codegen


@device
def exp(x):
    return math.exp(x)


@device
def expm1(x):
    return math.expm1(x)


@device
def log1p(x):
    return math.log1p(x)


@device
def power(x, y):
    return math.pow(x, y)


@intrinsic
def power2(typingctx, x, z, shift):
    """The low bits of z become the exponent of a factor. The product keeps a nan of x."""

    def codegen(context, builder, sig, args):
        exponent = builder.add(builder.bitcast(args[1], I32), builder.add(builder.trunc(args[2], I32), I32(127)))
        scale = builder.shl(exponent, I32(23))
        return builder.fmul(args[0], builder.bitcast(scale, FLOAT))

    return types.float32(types.float32, types.float32, types.int64), codegen


@intrinsic
def add_exponent(typingctx, x, z):
    """The bits of z above n are shifted out."""

    def codegen(context, builder, sig, args):
        exponent = builder.shl(builder.bitcast(args[1], I32), I32(23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], I32), exponent), FLOAT)

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def bits(typingctx, v):
    return types.int64(types.float64), lambda context, builder, sig, args: builder.bitcast(args[0], I64)


@intrinsic
def number(typingctx, v):
    return types.float64(types.int64), lambda context, builder, sig, args: builder.bitcast(args[0], DOUBLE)


@device
def shuffle_xor(v, mask):
    return cuda.shfl_xor_sync(0xFFFFFFFF, v, mask)


@device
def barrier():
    cuda.syncthreads()


@device
def fence():
    cuda.threadfence()


@device
def host_fence():
    cuda.threadfence_system()


def _atomic(operation):
    @intrinsic
    def atomic(typingctx, p, i, v):
        def codegen(context, builder, sig, args):
            return builder.atomic_rmw(operation, builder.gep(args[0], [args[1]]), args[2], "monotonic")

        return types.int64(p, types.int64, types.int64), codegen

    return atomic


add_integer, min_integer = _atomic("add"), _atomic("min")


@intrinsic
def swap_integer(typingctx, p, i, old, new):
    def codegen(context, builder, sig, args):
        address = builder.gep(args[0], [args[1]])
        return builder.extract_value(builder.cmpxchg(address, args[2], args[3], "monotonic", "monotonic"), 0)

    return types.int64(p, types.int64, types.int64, types.int64), codegen


@intrinsic
def cluster_rank(typingctx):
    def codegen(context, builder, sig, args):
        return builder.zext(_inline(builder, I32, [], "mov.u32 $0, %cluster_ctarank;", "=r"), I64)

    return types.int64(), codegen


def _cluster_barrier(text):
    @intrinsic
    def call(typingctx):
        def codegen(context, builder, sig, args):
            _inline(builder, ir.VoidType(), [], text, "~{memory}", True, ("convergent",))
            return context.get_dummy_value()

        return types.void(), codegen

    return call


cluster_arrive = _cluster_barrier("barrier.cluster.arrive.release;")

cluster_arrive_relaxed = _cluster_barrier("barrier.cluster.arrive.relaxed;")

cluster_wait = _cluster_barrier("barrier.cluster.wait.acquire;")


@intrinsic
def cluster_put(typingctx, shared, i, rank, v):
    def codegen(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, value=args[0])
        generic = builder.bitcast(builder.gep(array.data, [args[1]]), I8.as_pointer())
        address = builder.ptrtoint(builder.addrspacecast(generic, I8.as_pointer(3)), I32)
        kind, letter = ("f64", "d") if shared.dtype == types.float64 else ("f32", "f")
        text = f"{{ .reg .u32 remote; mapa.shared::cluster.u32 remote, $0, $1; st.shared::cluster.{kind} [remote], $2; }}"
        operands = [address, builder.trunc(args[2], I32), args[3]]
        _inline(builder, ir.VoidType(), operands, text, f"r,r,{letter},~{{memory}}", True)
        return context.get_dummy_value()

    return types.void(shared, types.int64, types.int64, shared.dtype), codegen
