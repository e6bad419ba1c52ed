"""Activations and their derivatives; loops over them are compiled to vector instructions.

Numba's own ``exp`` and ``tanh`` are functions of the C library, called once per number. Those here have no branches
that depend on a number but choices between two.

Letters: U units.
"""

from __future__ import annotations

import math

from gd_lightning.engine.compiling import CompiledApart, inlined
from gd_lightning.engine.kernels.signatures import ACTIVATION
from gd_lightning.engine.kernels.structures import Array, Number
from gd_lightning.engine.kernels.vectors import polynomial, power_of_two

IDENTITY, RELU, LEAKY_RELU, ELU, GELU, SILU, SOFTPLUS, SIGMOID, TANH = range(9)

_LN2 = 0.693115234375  # so few digits that its product with an exponent is exact, also in float32
_REST_OF_LN2 = 3.1946184945309415e-05

# To a double's precision: expm1(r) / r for |r| at most ln(2) / 2, and log1p(u) / 2s of s^2 for s = u / (2 + u), at
# most 1/3, by their series; log(erfc(x) exp(x^2) / t) of 2t - 1 for t = 2 / (2 + x), all x >= 0, interpolated at 64
# Chebyshev points, with the first 28 polynomials.
_expm1_over_r = polynomial(*(1 / math.factorial(k + 1) for k in range(13)))
_log1p_over_2s = polynomial(*(1 / (2 * k + 1) for k in range(17)))
_log_of_scaled_erfc = polynomial(
    -0.6717940840566923, 0.6726432239776567, 0.04734330684190443, -0.0468956102311753, -0.009872689366389959,
    0.008824938557060623, 0.001758933557799016, -0.002345812500482853, -0.00014624686337800336, 0.000673678795580235,
    -9.37350311709817e-05, -0.0001743029472030762, 7.14010141275703e-05, 3.17451797494374e-05, -3.0187884551394243e-05,
    1.3772664134464417e-07, 8.562623420121286e-06, -2.947986876998259e-06, -1.27231190486887e-06,
    1.2500276612569754e-06,
    -1.6849800720653297e-07, -2.495832761719667e-07, 1.5334345920908177e-07, 1.4448658046252676e-09,
    -3.9171820510271855e-08, 1.1172352263623759e-08, 4.06088214696972e-09, -1.8902306008944537e-09,
)  # fmt: skip


def _activate(values: Array, derivatives: Array, begin: int, count: int, activation: int, shape: Number) -> None:
    """Replace sums of units by activations other than the identity and ReLU, and compute their derivatives.

    Args:
        values: Sums of all units; changed.
        derivatives: Receives the derivatives.
        begin: First unit.
        count: Number of units.
        activation: Number of the activation.
        shape: The slope of LeakyReLU, or the alpha of ELU.
    """
    z, d = values[begin : begin + count], derivatives[begin : begin + count]
    if activation == LEAKY_RELU:
        for u in range(count):
            d[u] = 1 if z[u] > 0 else shape
            z[u] = z[u] if z[u] > 0 else shape * z[u]
    elif activation == ELU:
        for u in range(count):
            z[u], d[u] = _elu(z[u], shape)
    elif activation == GELU:
        for u in range(count):
            z[u], d[u] = _gelu(z[u])
    elif activation == SILU:
        for u in range(count):
            z[u], d[u] = _silu(z[u])
    elif activation == SOFTPLUS:
        for u in range(count):
            z[u], d[u] = _softplus(z[u])
    elif activation == SIGMOID:
        for u in range(count):
            z[u], d[u] = _sigmoid(z[u])
    else:
        for u in range(count):
            z[u], d[u] = _tanh(z[u])


activate = CompiledApart(_activate, ACTIVATION)


@inlined
def rectify(values: Array, derivatives: Array, begin: int, count: int) -> None:
    """Replace sums of units by their ReLU in the same way; of few units, a call would take longer."""
    z, d = values[begin : begin + count], derivatives[begin : begin + count]
    for u in range(count):
        d[u] = 0 if z[u] <= 0 else 1
        z[u] = 0 if z[u] <= 0 else z[u]


@inlined
def _exponential(x: Number) -> tuple[Number, Number]:
    """Return exp(x) and exp(x) - 1; what would be smaller than all normal numbers is one of the smallest of them."""
    number = type(x)
    is_single = math.isinf(number(1e300))
    least, most = (number(-86), number(89)) if is_single else (number(-707), number(710))
    x = least if x < least else most if x > most else x  # nan remains nan
    exponent = number(math.floor(x * number(1 / math.log(2)) + number(0.5)))
    r = (x - exponent * number(_LN2)) - exponent * number(_REST_OF_LN2)
    less = r * _expm1_over_r(r)
    half = power_of_two(exponent - number(1))
    return number(2) * (half + half * less), number(2) * (half * less + (half - number(0.5)))


@inlined
def _elu(z: Number, alpha: Number) -> tuple[Number, Number]:
    exp, expm1 = _exponential(z)
    return (z, type(z)(1)) if z > 0 else (alpha * expm1, alpha * exp)


@inlined
def _gelu(z: Number) -> tuple[Number, Number]:
    number = type(z)
    x = abs(z) * number(math.sqrt(0.5))
    t = number(2) / (number(2) + x)
    half_erfc = number(0.5) * t * _exponential(_log_of_scaled_erfc(t + t - number(1)) - x * x)[0]
    below = number(1) - half_erfc if z > 0 else half_erfc
    return z * below, below + z * (_exponential(-x * x)[0] * number(1 / math.sqrt(2 * math.pi)))


@inlined
def _silu(z: Number) -> tuple[Number, Number]:
    one = type(z)(1)
    sigmoid = one / (one + _exponential(-z)[0])
    return z * sigmoid, sigmoid * (one + z * (one - sigmoid))


@inlined
def _softplus(z: Number) -> tuple[Number, Number]:
    number, one = type(z), type(z)(1)
    exp = _exponential(-abs(z))[0]
    s, inverse = exp / (number(2) + exp), one / (one + exp)
    above = z if z > 0 else number(0) if z <= 0 else z
    value, slope = above + number(2) * s * _log1p_over_2s(s * s), inverse if z > 0 else exp * inverse
    return (z, one) if z > 20 else (value, slope)


@inlined
def _sigmoid(z: Number) -> tuple[Number, Number]:
    one = type(z)(1)
    value = one / (one + _exponential(-z)[0])
    return value, value * (one - value)


@inlined
def _tanh(z: Number) -> tuple[Number, Number]:
    number, one = type(z), type(z)(1)
    expm1 = _exponential(number(-2) * abs(z))[1]
    size = -expm1 / (expm1 + number(2))
    value = size if z > 0 else -size
    return value, one - value * value
