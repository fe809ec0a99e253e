"""What numba can't say, written in LLVM's language: the innermost loop of every product, a tile of sums that stay in
registers; and what threads tell each other."""

from __future__ import annotations

from itertools import product as pairs
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # of a vector, which LLVM splits where the processor's are shorter; as many positions lie in a page
TERMS = 2  # of a sum, which one instruction takes of whole numbers: they lie side by side
VECTOR = ir.VectorType(ir.FloatType(), LANES)
BITS, WIDE = (ir.VectorType(ir.IntType(size), LANES) for size in (16, 32))
BYTE_TERMS, TERM_VECTOR = (ir.VectorType(ir.IntType(size), TERMS * LANES) for size in (8, 16))
CPU = get_host_cpu_features()
WIDE_REGISTERS = CPU.get("avx512bw", False)  # 32 of 512 bits, not 16 of 256


def tile(rows: int, vectors: int, *, times: int = 1, onto: bool = False, chains: int = 1) -> Any:
    """Compiles a function f(x, weight, y, row, column, ahead) that does

        y[row : row + rows, column : ..] = x[row : row + rows] @ weight           LANES * vectors * times columns

    or adds it `onto` y, so many `vectors` of columns at a time. x, y (B, ..) float32, weight (M, N) bfloat16 bits; or x
    int16 and weight (M / TERMS, TERMS * N) int8, whose sums must not exceed 31 bits. Rows lie one behind the other.

    Numba finds no vectors in the obvious loops: it cannot know that the operands do not overlap. So this writes the
    loop in LLVM's language: twenty times as fast for sixteen rows.

    Sums stay in registers, and each takes its terms in the order of x: so what a row comes to does not depend on the
    others. A lone sum would wait for itself at every term: it is better taken in `chains`, of every so manieth term (M
    must be a multiple), added at the end. Such a weight is read once and lies in pieces: what lies `ahead`, so many
    numbers behind it, is fetched meanwhile.
    """

    @intrinsic
    def multiply(typing: Any, x: Any, weight: Any, y: Any, row: Any, column: Any, ahead: Any) -> Any:
        assert (x.dtype is types.int16) == (weight.dtype is types.int8)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            kinds = zip(signature.args[:3], args[:3], strict=True)
            arrays = [context.make_array(kind)(context, builder, array) for kind, array in kinds]
            loop = (_WholeLoop if x.dtype is types.int16 else _Loop)(builder, *arrays, *args[3:])
            for number in range(times):
                loop.write(rows, vectors, chains, first=number * vectors, onto=onto)
            return context.get_dummy_value()

        return types.void(x, weight, y, types.intp, types.intp, types.intp), generate

    return multiply


def _publish(typing: Any, numbers: Any, index: Any, value: Any) -> Any:
    """numbers[index] = value, int64: a thread that `observe`s it also finds what this one has written before."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, signature, args), "release", align=8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, types.int64), generate


def _observe(typing: Any, numbers: Any, index: Any) -> Any:
    """numbers[index], int64, as other threads have left it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", align=8)

    return types.int64(numbers, types.intp), generate


def _place(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


publish: Any = intrinsic(_publish)
observe: Any = intrinsic(_observe)


class _Loop:
    """Writes the instructions of one tile."""

    kind, terms = VECTOR, 1  # of a sum, and of x that are taken together

    def __init__(self, builder: Any, x: Any, weight: Any, y: Any, row: Any, column: Any, ahead: Any) -> None:
        self.builder = builder
        self.x, self.y, self.row, self.column, self.ahead = x, y, row, column, ahead
        self.depth, self.width = cgutils.unpack_tuple(builder, weight.shape)
        self.weights = weight.data
        self.size = self.depth.type

    def write(self, rows: int, vectors: int, chains: int, *, first: int, onto: bool) -> None:
        """`first`: the vector of columns that it begins with."""
        builder, size = self.builder, self.size
        columns = range(first, first + vectors)
        numbers = [self.line(self.x, r) for r in range(rows)]
        out = [builder.gep(self.line(self.y, r), [self.column]) for r in range(rows)]
        places = list(pairs(range(rows), columns))
        sums = {(*place, c): cgutils.alloca_once(builder, self.kind) for place in places for c in range(chains)}
        for (r, v, c), total in sums.items():
            builder.store(self.load(out[r], v, VECTOR) if onto and not c else ir.Constant(self.kind, None), total)
        with cgutils.for_range(builder, builder.udiv(self.depth, size(chains))) as loop:
            for c in range(chains):
                term = builder.add(builder.mul(loop.index, size(chains)), size(c))
                here = builder.gep(self.weights, [builder.mul(term, self.width)])
                if chains > 1:
                    for v in columns:
                        self.prefetch(here, v)
                factors = {v: self.widened(here, v) for v in columns}
                for r in range(rows):
                    number = self.everywhere(builder.gep(numbers[r], [builder.mul(term, size(self.terms))]))
                    for v in columns:
                        total = sums[r, v, c]
                        builder.store(self.added(builder.load(total), number, factors[v]), total)
        for r, v in places:
            total = self.ended([builder.load(sums[r, v, c]) for c in range(chains)])
            builder.store(total, self.at(out[r], v, VECTOR), align=4)

    def line(self, array: Any, number: int) -> Any:
        """Where row number `number` of the tile begins."""
        length = cgutils.unpack_tuple(self.builder, array.shape)[1]
        return self.builder.gep(array.data, [self.builder.mul(self.builder.add(self.row, self.size(number)), length)])

    def at(self, start: Any, number: int, kind: Any) -> Any:
        """Where vector number `number` behind `start` begins."""
        place = self.builder.gep(start, [self.size(number * kind.count)])
        return self.builder.bitcast(place, kind.as_pointer())

    def load(self, start: Any, number: int, kind: Any) -> Any:
        return self.builder.load(self.at(start, number, kind), align=1)

    def widened(self, start: Any, number: int) -> Any:
        """bfloat16 bits are the upper half of a float32."""
        bits = self.builder.zext(self.load(start, number, BITS), WIDE)
        return self.builder.bitcast(self.builder.shl(bits, ir.Constant(WIDE, [16] * LANES)), VECTOR)

    def prefetch(self, start: Any, number: int) -> None:
        """To be read, into the nearest cache."""
        count, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        line = self.builder.bitcast(
            self.builder.gep(start, [self.builder.add(self.ahead, self.size(number * LANES))]), byte
        )
        self.call("llvm.prefetch.p0i8", ir.VoidType(), line, count(0), count(3), count(1))

    def everywhere(self, place: Any) -> Any:
        """The number at a place, in all lanes."""
        number = self.builder.load(place)
        alone = self.builder.insert_element(
            ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined), number, ir.IntType(32)(0)
        )
        return self.builder.shuffle_vector(alone, alone, ir.Constant(WIDE, [0] * LANES))

    def added(self, total: Any, number: Any, factor: Any) -> Any:
        return self.call(f"llvm.fma.v{LANES}f32", VECTOR, number, factor, total)

    def ended(self, chains: list[Any]) -> Any:
        total = chains[0]
        for chain in chains[1:]:
            total = self.builder.fadd(total, chain)
        return total

    def call(self, name: str, result: Any, *operands: Any) -> Any:
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), operands)


class _WholeLoop(_Loop):
    """Of whole numbers, TERMS of a sum at a time."""

    kind, terms = WIDE, TERMS

    def widened(self, start: Any, number: int) -> Any:
        return self.builder.sext(self.load(start, number, BYTE_TERMS), TERM_VECTOR)

    def everywhere(self, place: Any) -> Any:
        whole = super().everywhere(self.builder.bitcast(place, ir.IntType(8 * 2 * TERMS).as_pointer()))
        return self.builder.bitcast(whole, TERM_VECTOR)

    def added(self, total: Any, number: Any, factor: Any) -> Any:
        """LLVM does not find the instruction by itself."""
        if WIDE_REGISTERS:
            return self.builder.add(total, self.call("llvm.x86.avx512.pmaddw.d.512", WIDE, number, factor))
        if not CPU.get("avx2"):
            first, second = (
                self.builder.mul(*(self.part(x, range(term, TERMS * LANES, TERMS), WIDE) for x in (number, factor)))
                for term in range(TERMS)
            )
            return self.builder.add(total, self.builder.add(first, second))
        halves = [range(LANES), range(LANES, 2 * LANES)]
        half = ir.VectorType(ir.IntType(32), LANES // 2)
        sums = [
            self.call("llvm.x86.avx2.pmadd.wd", half, *(self.part(x, lanes, BITS) for x in (number, factor)))
            for lanes in halves
        ]
        return self.builder.add(total, self.builder.shuffle_vector(*sums, ir.Constant(WIDE, list(range(LANES)))))

    def part(self, numbers: Any, lanes: range, kind: Any) -> Any:
        part = self.builder.shuffle_vector(numbers, numbers, ir.Constant(WIDE, list(lanes)))
        return part if kind is BITS else self.builder.sext(part, kind)

    def ended(self, chains: list[Any]) -> Any:
        [total] = chains
        return self.builder.sitofp(total, VECTOR)
