"""Matrix products over a block of samples, whose rows are units and whose columns are samples.

A row begins a stride after the row before it, and consists of some vectors of L numbers each.

Letters: L numbers of a vector register.
"""

from __future__ import annotations

from gd_lightning.engine.compiling import CompiledApart
from gd_lightning.engine.kernels.signatures import DOTS, PRODUCT
from gd_lightning.engine.kernels.structures import Array
from gd_lightning.engine.kernels.vectors import dots_tile, product_tile

# Eight sums in registers hide how long an addition takes.
_product_of_8, _product_of_4, _product_of_2, _product_of_1 = map(product_tile, (8, 4, 2, 1))
_dots_of_8, _dots_of_4, _dots_of_2, _dots_of_1 = map(dots_tile, (8, 4, 2, 1))


def _add_product(
    out: Array, out_at: int, a: Array, a_at: int, b: Array, b_at: int, stride: int, a_row: int, a_column: int,
    rows: int, terms: int, vectors: int, lanes: int,
) -> None:  # fmt: skip
    """Add to rows of ``out`` the product of a matrix a, of any strides, and rows of b, one for each column of a."""
    for vector in range(vectors):
        begin, b_begin, row = out_at + vector * lanes, b_at + vector * lanes, 0
        while row + 8 <= rows:
            at, a_begin = begin + row * stride, a_at + row * a_row
            _product_of_8(out, at, a, a_begin, b, b_begin, stride, a_row, a_column, terms)
            row += 8
        if row + 4 <= rows:
            at, a_begin = begin + row * stride, a_at + row * a_row
            _product_of_4(out, at, a, a_begin, b, b_begin, stride, a_row, a_column, terms)
            row += 4
        if row + 2 <= rows:
            at, a_begin = begin + row * stride, a_at + row * a_row
            _product_of_2(out, at, a, a_begin, b, b_begin, stride, a_row, a_column, terms)
            row += 2
        if row < rows:
            at, a_begin = begin + row * stride, a_at + row * a_row
            _product_of_1(out, at, a, a_begin, b, b_begin, stride, a_row, a_column, terms)


def _add_dots(
    out: Array, out_at: int, a: Array, a_at: int, b: Array, b_at: int, stride: int, rows: int, columns: int,
    vectors: int,
) -> None:  # fmt: skip
    """Add the dot products of rows of a and rows of b to a matrix that is stored column by column."""
    row = 0
    while row + 8 <= rows:  # these 8 rows remain in the fastest cache while all rows of b are read
        for column in range(columns):
            at, b_begin = out_at + column * rows + row, b_at + column * stride
            _dots_of_8(out, at, a, a_at + row * stride, b, b_begin, stride, vectors)
        row += 8
    if row + 4 <= rows:
        for column in range(columns):
            at, b_begin = out_at + column * rows + row, b_at + column * stride
            _dots_of_4(out, at, a, a_at + row * stride, b, b_begin, stride, vectors)
        row += 4
    if row + 2 <= rows:
        for column in range(columns):
            at, b_begin = out_at + column * rows + row, b_at + column * stride
            _dots_of_2(out, at, a, a_at + row * stride, b, b_begin, stride, vectors)
        row += 2
    if row < rows:
        for column in range(columns):
            at, b_begin = out_at + column * rows + row, b_at + column * stride
            _dots_of_1(out, at, a, a_at + row * stride, b, b_begin, stride, vectors)


add_product = CompiledApart(_add_product, PRODUCT)
add_dots = CompiledApart(_add_dots, DOTS)
