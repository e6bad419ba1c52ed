"""Orders of samples as torch draws them on the CPU, of many epochs in one call; importing this module imports Numba.

torch seeds a Mersenne Twister (MT19937) of 624 words for each epoch, and draws a number of 32 bits for each sample.
To seed and to renew all words takes longer than an order of some hundred samples, so only those words are made that it
reads, of several epochs side by side in vector registers.

Sources: Matsumoto and Nishimura, Mersenne Twister (1998), https://doi.org/10.1145/272991.272995; torch's
``MT19937RNGEngine.h``, and its ``randperm`` and ``randint`` for the CPU.

Letters: N samples, E epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.core.cgutils import ir  # llvmlite's, of the release that Numba works with

from gd_lightning.engine.compiling import inlined, intrinsic, outer
from gd_lightning.engine.kernels.structures import Array

WORDS = 624
"""Words of the state of a generator."""

BESIDE = 16
"""Epochs whose generators are computed side by side."""

_FAR = 397  # distance in the state of the second word from which a new word is made, M = 397 of MT19937
_INDEX, _WORD = ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_WORD, BESIDE)


def _everywhere(number: int) -> Any:
    return ir.Constant(_VECTOR, [number] * BESIDE)


def _making_words(to: int, reads: tuple[int, ...], formula: Callable[..., Any]) -> Any:
    """Return compiled code that makes a word of each generator; its arguments are all words, flat, and an index.

    Args:
        to: Distance of the word from the index.
        reads: Distances of the words that it is made of.
        formula: Writes the instructions, given LLVM's builder, the index, and vectors of these words.
    """

    @intrinsic
    def make(typing: Any, words: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, at = arguments
            first = context.make_array(signature.args[0])(context, builder, array).data

            def place(distance: int) -> Any:
                number = builder.mul(builder.add(at, _INDEX(distance)), _INDEX(BESIDE))
                return builder.bitcast(builder.gep(first, [number]), _VECTOR.as_pointer())

            found = [builder.load(place(distance), align=4) for distance in reads]
            builder.store(formula(builder, at, *found), place(to), align=4)
            return context.get_dummy_value()

        return types.none(words, types.int64), generate

    return make


def _seeded(builder: Any, at: Any, before: Any) -> Any:
    mixed = builder.xor(before, builder.lshr(before, _everywhere(30)))
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), builder.trunc(at, _WORD), _WORD(0))
    index = builder.shuffle_vector(first, first, _everywhere(0))
    return builder.add(builder.mul(mixed, _everywhere(1812433253)), index)


def _renewed(builder: Any, at: Any, word: Any, following: Any, far: Any) -> Any:
    upper = builder.and_(word, _everywhere(0x80000000))
    mixed = builder.or_(upper, builder.and_(following, _everywhere(0x7FFFFFFF)))
    is_odd = builder.neg(builder.and_(following, _everywhere(1)))  # all bits set for an odd number, or none
    twisted = builder.xor(builder.lshr(mixed, _everywhere(1)), builder.and_(is_odd, _everywhere(0x9908B0DF)))
    return builder.xor(far, twisted)


def _tempered(builder: Any, at: Any, word: Any) -> Any:
    word = builder.xor(word, builder.lshr(word, _everywhere(11)))
    word = builder.xor(word, builder.and_(builder.shl(word, _everywhere(7)), _everywhere(0x9D2C5680)))
    word = builder.xor(word, builder.and_(builder.shl(word, _everywhere(15)), _everywhere(0xEFC60000)))
    return builder.xor(word, builder.lshr(word, _everywhere(18)))


_seed_word = _making_words(0, (-1,), _seeded)
_add_word = _making_words(WORDS, (0, 1, _FAR), _renewed)
_temper_word = _making_words(0, (0,), _tempered)


@outer
def draw_orders(seeds: Array, rows: Array, words: Array, is_permuted: bool) -> None:
    """Draw the order of each of several epochs.

    Args:
        seeds: Seeds of the generators, uint64, shape (E,).
        rows: Receives the rows, int64, shape (E, N).
        words: Working memory, uint32, zeros at first, shape ((WORDS + N) * BESIDE,).
        is_permuted: Whether each sample comes once; else all rows are independent.
    """
    n = rows.shape[1]
    for first in range(0, len(seeds), BESIDE):
        count = min(BESIDE, len(seeds) - first)
        for e in range(count):
            words[e] = np.uint32(seeds[first + e])
        for i in range(1, min(WORDS, n + _FAR)):
            _seed_word(words, i)
        for i in range(n):
            _add_word(words, i)
        for i in range(WORDS, WORDS + n):
            _temper_word(words, i)
        for e in range(count):
            numbers = words[WORDS * BESIDE + e :: BESIDE]
            if is_permuted:
                _permute(rows[first + e], numbers)
            else:
                for i in range(n):
                    rows[first + e, i] = numbers[i] % np.uint32(n)


@inlined
def _permute(rows: Array, numbers: Array) -> None:
    """Exchange each row with one that is not before it, chosen by a number."""
    n = len(rows)
    for i in range(n):
        rows[i] = i
    for i in range(n - 1):
        other = i + np.int64(numbers[i] % np.uint32(n - i))
        rows[i], rows[other] = rows[other], rows[i]
