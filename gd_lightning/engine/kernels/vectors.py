"""Code for vector registers that no loop compiles to: tiles of matrix products, and powers of two.

Each function is an intrinsic of Numba, which writes instructions of LLVM: the order of summation, and with it each bit,
is then the same in every version of the compiler.

Letters: R rows of a tile, L numbers of a vector register, K products of a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.cgutils import ir  # llvmlite's, of the release that Numba works with

from gd_lightning.engine.compiling import REGISTER, intrinsic

Values = list[Any]  # values of LLVM

_INDEX, _LANE = ir.IntType(64), ir.IntType(32)
_FUSED = ("contract",)  # the compiler may join a product and a sum into one instruction


class _Tile:
    """Writes instructions for vectors of the type of an array.

    Args:
        context: Numba's target.
        builder: Receives the instructions.
        kind: Type of the array.
    """

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self._context, self.builder = context, builder
        number = context.get_data_type(kind.dtype)
        self._align = context.get_abi_alignment(number)
        self.lanes = REGISTER // context.get_abi_sizeof(number)
        self.vector = ir.VectorType(number, self.lanes)

    def start(self, kind: Any, array: Any, at: Any) -> Any:
        """Return the address of an element of an array."""
        return self.builder.gep(self._context.make_array(kind)(self._context, self.builder, array).data, [at])

    def rows(self, start: Any, stride: Any, count: int) -> Values:
        """Return addresses that are a stride apart."""
        return [self.at(start, self.builder.mul(_INDEX(row), stride)) for row in range(count)]

    def at(self, start: Any, offset: Any) -> Any:
        """Return an address, some numbers after another one."""
        return self.builder.gep(start, [offset])

    def load(self, address: Any, lanes: int) -> Any:
        """Return a vector from memory."""
        vector = ir.VectorType(self.vector.element, lanes)
        return self.builder.load(self.builder.bitcast(address, vector.as_pointer()), align=self._align)

    def store(self, vector: Any, address: Any) -> None:
        """Write a vector to memory."""
        self.builder.store(vector, self.builder.bitcast(address, vector.type.as_pointer()), align=self._align)

    def everywhere(self, number: Any) -> Any:
        """Return a vector whose numbers are all the same."""
        first = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), number, _LANE(0))
        return self.pick(first, first, [0] * self.lanes)

    def pick(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """Return some numbers of two vectors, counted through both."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_LANE, len(lanes)), lanes))

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        """Return ``total + a * b``."""
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=_FUSED), flags=_FUSED)

    def add_neighbours(self, a: Any, b: Any) -> Any:
        """Return the sums of neighbours in a, followed by those in b."""
        both = range(2 * a.type.count)
        return self.builder.fadd(self.pick(a, b, list(both[::2])), self.pick(a, b, list(both[1::2])))

    def sums(self, vectors: Values) -> Any:
        """Return the sum over each of several vectors, as many as a power of two, in a vector."""
        count = len(vectors)
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self.add_neighbours(a, b) for a, b in pairs]
        (total,) = vectors
        while total.type.count > count:
            both = range(total.type.count)
            even, odd = (self.pick(total, total, list(part)) for part in (both[::2], both[1::2]))
            total = self.builder.fadd(even, odd)
        return total

    def add_up(self, count: Any, totals: Values, add: Callable[[Any, Values], Values]) -> Values:
        """Return the totals after ``add`` has added to them for each index from 0 to count - 1."""
        builder = self.builder
        before, head, body, behind = builder.block, *(builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        index, *running = [builder.phi(kind) for kind in (_INDEX, *(total.type for total in totals))]
        builder.cbranch(builder.icmp_signed("<", index, count), body, behind)
        builder.position_at_end(body)
        following = [builder.add(index, _INDEX(1)), *add(index, running)]
        for value, first, later in zip((index, *running), (_INDEX(0), *totals), following, strict=True):
            value.add_incoming(first, before)
            value.add_incoming(later, builder.block)
        builder.branch(head)
        builder.position_at_end(behind)
        return running


def product_tile(rows: int) -> Any:
    """Return compiled code that adds R rows of a matrix product, L columns wide.

    Its arguments are three times an array, flat, and where the tile begins in it: out, a and b; then the strides
    between the rows of out and of b, between those of a, and between the columns of a; and K.

    Args:
        rows: R.
    """

    @intrinsic
    def add(
        typing: Any, out: Any, out_at: Any, a: Any, a_at: Any, b: Any, b_at: Any,
        stride: Any, a_row: Any, a_column: Any, terms: Any,
    ) -> Any:  # fmt: skip
        index = types.int64
        signature = types.none(out, index, a, index, b, index, index, index, index, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds, tile = signature.args, _Tile(context, builder, signature.args[0])
            into, left, right = (tile.start(kinds[at], *arguments[at : at + 2]) for at in (0, 2, 4))
            stride, a_row, a_column, terms = arguments[6:]
            places, lefts = tile.rows(into, stride, rows), tile.rows(left, a_row, rows)

            def add_term(term: Any, totals: Values) -> Values:
                of_b = tile.load(tile.at(right, builder.mul(term, stride)), tile.lanes)
                along = builder.mul(term, a_column)
                numbers = [builder.load(tile.at(row, along)) for row in lefts]
                pairs = zip(totals, numbers, strict=True)
                return [tile.add_product(total, tile.everywhere(number), of_b) for total, number in pairs]

            totals = tile.add_up(terms, [tile.load(place, tile.lanes) for place in places], add_term)
            for total, place in zip(totals, places, strict=True):
                tile.store(total, place)
            return context.get_dummy_value()

        return signature, generate

    return add


def dots_tile(rows: int) -> Any:
    """Return compiled code that adds the dot products of R vectors with another one to R neighbouring numbers.

    Its arguments are three times an array, flat, and where the numbers begin in it: out, a and b; then the stride
    between the vectors of a, and their length in units of L.

    Args:
        rows: R, a power of two that is at most 8.
    """

    @intrinsic
    def add(
        typing: Any, out: Any, out_at: Any, a: Any, a_at: Any, b: Any, b_at: Any, stride: Any, vectors: Any
    ) -> Any:  # fmt: skip
        index = types.int64
        signature = types.none(out, index, a, index, b, index, index, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds, tile = signature.args, _Tile(context, builder, signature.args[0])
            into, left, right = (tile.start(kinds[at], *arguments[at : at + 2]) for at in (0, 2, 4))
            lefts = tile.rows(left, arguments[6], rows)

            def add_vectors(vector: Any, totals: Values) -> Values:
                along = builder.mul(vector, _INDEX(tile.lanes))
                of_b = tile.load(tile.at(right, along), tile.lanes)
                loaded = [tile.load(tile.at(row, along), tile.lanes) for row in lefts]
                return [tile.add_product(total, of_a, of_b) for total, of_a in zip(totals, loaded, strict=True)]

            zeros = [ir.Constant(tile.vector, None)] * rows
            sums = tile.sums(tile.add_up(arguments[7], zeros, add_vectors))
            tile.store(builder.fadd(tile.load(into, rows), sums), into)
            return context.get_dummy_value()

        return signature, generate

    return add


@intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:
    """Return two to the power of a whole number, which is a float, within the range of normal numbers."""
    bits, digits = (32, 23) if exponent == types.float32 else (64, 52)
    whole = ir.IntType(bits)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Adding a number this large moves the exponent into the last digits of the sum.
        number = arguments[0].type
        large = builder.fadd(arguments[0], ir.Constant(number, 1.5 * 2.0**digits))
        biased = builder.add(builder.bitcast(large, whole), whole(2 ** (bits - digits - 2) - 1))
        return builder.bitcast(builder.shl(biased, whole(digits)), number)

    return exponent(exponent), generate


def polynomial(*coefficients: float) -> Any:
    """Return compiled code of the polynomial with these coefficients, the constant one first, by Estrin's scheme.

    Args:
        coefficients: The coefficients.
    """

    @intrinsic
    def evaluate(typing: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (power,) = arguments
            terms: Values = [ir.Constant(power.type, coefficient) for coefficient in coefficients]
            while len(terms) > 1:
                pairs = list(zip(terms[::2], terms[1::2], strict=False))
                rest = terms[2 * len(pairs) :]
                sums = [builder.fmul(power, upper, flags=_FUSED) for _, upper in pairs]
                terms = [builder.fadd(lower, more, flags=_FUSED) for (lower, _), more in zip(pairs, sums, strict=True)]
                terms, power = terms + rest, builder.fmul(power, power)
            return terms[0]

        return at(at), generate

    return evaluate
