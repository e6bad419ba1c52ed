"""Number of correct digits, limited by rounding, of the least-squares solution after convergence.

A rounding error is taken as a random number within half a unit in the last place, independent of all others, so
q(v) = ulp(v)^2 / 12 is its variance at v. To first order an error dg of the gradient moves the point that the descent
converges to by H^-1 dg, and the variances of all sources add up:

- A feature that is wrong by dz has dg = (2 / (K N)) (e_d r_n - theta_d a_n) dz, with rows a_n = (z_n, 1), residuals r_n
  and the unit vector e_d. This error comes from data that are rounded to the precision. The layer that standardises
  takes them as they are, subtracts the mean in float64, and rounds its result to the precision.
- A target that is rounded, or a prediction (its products, their sum, and the residual), has dg = (2 / (K N)) a_n dy.
- The sum of the gradient, sample by sample, has at most the variance (2 / K)^2 u^2 mean(a_d^2 r^2) / 6.
- A mean that is rounded by d shifts all samples alike. With a bias nothing is lost, as parameters in original units are
  made with the same mean; without one, dg = (2 / K) e_d mean(r) d / scale.
- A parameter does not move if its step rounds to 0, and oscillates if it rounds up: with t = lr lam, an error up
  to half an ulp over min(t, 2 - t) stays. A slow direction comes from outside and stops at this border, a fast one
  lands anywhere within: its mean square is (1 + p + p^2) / 3 of the border's, p = 1 - min(t, 2 - t). With momentum, t
  is lr lam / (1 - mu), and the other one 2 - 2 lr / (the largest stable lr of the direction). No direction ends farther
  away than it starts, where it stays if its first step rounds to 0 there.
- Parameters in original units, w / scale and b - w mean / scale, are computed in float64. The second magnifies what
  came before: a bias that is a small difference of large numbers has the errors of the large ones.

Sources: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 2.8 (rounding errors as random
numbers) and 4.2 (sums); Golub and Van Loan, Matrix Computations, 4th edition, section 5.3 (what changed data do to a
least-squares solution); McCullough, The American Statistician 52 (1998), on counting digits.

Letters: N samples, M of them, D features, K outputs, C columns of the design (D, and one of ones for the bias), R
directions, P parameters.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.models import Standardize
from gd_lightning.theory.full_batch import largest_stable_lr
from gd_lightning.theory.quadratic_loss import LinearLoss, stacked
from gd_lightning.update_rule import UpdateRule

_MEDIAN = 0.6745  # median absolute value of a standard normal variable
_NOTHING = 10  # standard deviations within which a parameter cannot be distinguished from 0


@dataclass(frozen=True)
class Rounding:
    """The effect of rounding on the least-squares solution, in batch gradient descent at a stable learning rate.

    Args:
        loss: The loss on the training set, of features as the regressor sees them.
        x: Features in original units, not yet rounded, shape (M, D): of all samples, or of some drawn evenly. What
            float32 cannot hold counts as rounded in float64 too, as the decimals of a table are.
        y: Targets of these samples, shape (M, K).
        rule: How an update moves.
        layer: The layer that standardises the features; None if they are not standardised.
        start: The parameters of the regressor before the first update; None: somewhere far off.

    Example:
        >>> x = torch.tensor([[1001.0], [1002.0], [1003.0], [1004.0]])
        >>> y = torch.tensor([[1002.0], [1003.0], [1003.0], [1006.0]])  # 1.2 x - 199.5
        >>> layer = Standardize.fit(lambda: [x])
        >>> rounding = Rounding(LinearLoss.of(layer(x), y), x, y, UpdateRule(lr=0.5), layer)
        >>> [round(digits) for digits in rounding.digits(torch.float32).tolist()]
        [5, 4]
    """

    loss: LinearLoss
    x: Tensor
    y: Tensor
    rule: UpdateRule
    layer: Standardize | None = None
    start: Affine | None = None

    def digits(self, dtype: torch.dtype) -> Tensor:
        """Return the number of correct significant decimal digits of each parameter, -log10(abs(error / parameter)).

        It is the median: as many runs have more as have fewer. Of ten, nine are between half a digit fewer and one
        digit more.

        Args:
            dtype: float32 or float64: the precision of data, layer, gradients and parameters.

        Returns:
            Shape (P,), in original units and in the order of ``Affine.flat``, from 0 to what the precision holds (7.2
            or 16). For a parameter that is 0 up to rounding in float64, digits after the point.
        """
        size = self._in_original_units(self.loss.minimum).flat().abs()
        size = torch.where(size <= _NOTHING * self.std(torch.float64), torch.ones_like(size), size)
        error = _MEDIAN * self.std(dtype) / size
        return -error.clamp(torch.finfo(dtype).eps / 2, 1).log10()

    def std(self, dtype: torch.dtype) -> Tensor:
        """Return the standard deviation of the error of each parameter in original units, shape (P,), as ``digits``."""
        loss, n_features = self.loss, self.x.shape[1]
        back = self._back(loss.directions)
        solve, variances = back / loss.curvatures, []
        for output in range(loss.n_outputs):
            theta = self._theta[:, output]
            noise = self._gradient_noise(theta, self.y[:, output].double(), dtype)
            stalled = self._stalled(output, dtype)
            variance = ((solve @ noise) * solve).sum(dim=1) + ((back @ stalled) * back).sum(dim=1)
            variances.append(variance + self._noise_of_the_way_back(self._back(theta[:, None])[:, 0]))
        variance = torch.stack(variances)
        return torch.cat([variance[:, :n_features].flatten(), variance[:, n_features:].flatten()]).sqrt()

    def excess(self, dtype: torch.dtype) -> float:
        """Return how far above the least-squares loss rounding keeps the train loss, in the mean."""
        loss, excess = self.loss, 0.0
        for output in range(loss.n_outputs):
            theta = self._theta[:, output]
            noise = self._gradient_noise(theta, self.y[:, output].double(), dtype)
            moved = noise.diagonal() / loss.curvatures.square()
            excess += (loss.eigenvalues * (moved + self._stalled(output, dtype).diagonal())).sum().item() / 2
        return excess

    @property
    def _theta(self) -> Tensor:
        """The minimum of the objective as parameters of the regressor, weights then bias, shape (C, K)."""
        return stacked(self.loss.minimum)

    def _in_original_units(self, affine: Affine) -> Affine:
        return affine if self.layer is None else affine.in_original_units(self.layer.mean, self.layer.scale)

    def _back(self, parameters: Tensor) -> Tensor:
        """Return parameters of an output, shape (C, n), in original units, shape (C or D + 1, n)."""
        bias = None if self.loss.optimum.bias is None else parameters[-1]
        return stacked(self._in_original_units(Affine(parameters[: self.x.shape[1]].T, bias)))

    def _left(self) -> Tensor:
        """Return the error that remains in each direction where steps round to 0, in half ulps, shape (R,)."""
        stays = 1 - self._moved()
        return ((1 + stays + stays.square()) / 3).sqrt() / self._moved()

    def _moved(self) -> Tensor:
        """Return the part of the error in each direction that a step takes away, shape (R,)."""
        t, limit = self.rule.lr * self.loss.curvatures, largest_stable_lr(1.0, self.rule)
        return torch.minimum(t / (1 - self.rule.momentum), 2 - 2 * t / limit).clamp(sys.float_info.min, 1)

    def _stalled(self, output: int, dtype: torch.dtype) -> Tensor:
        """Return the covariance of the errors that remain in an output where steps round to 0, shape (R, R).

        It is along the directions.
        """
        left, theta = self._left(), self._theta[:, output]
        half_ulps = self._half_ulps(theta, dtype)
        if self.start is None:
            return left[:, None] * half_ulps * left
        start = stacked(self.start)[:, output]
        error = self.loss.directions.T @ (start - theta)
        size, size_at_start = (each.diagonal().sqrt() for each in (half_ulps, self._half_ulps(start, dtype)))
        stands = self._moved() * error.abs() < size_at_start
        left = torch.minimum(left, torch.where(size > 0, error.abs() / size, left).clamp(min=1)).where(~stands, 0.0)
        error = error.where(stands, 0.0)
        return left[:, None] * half_ulps * left + error[:, None] * error

    def _half_ulps(self, parameters: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the covariance of independent errors of half an ulp of an output's parameters, along the directions.

        Args:
            parameters: Shape (C,).
            dtype: The precision.

        Returns:
            Shape (R, R).
        """
        return self.loss.directions.T * (3 * _variance(parameters, dtype)) @ self.loss.directions

    def _gradient_noise(self, theta: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the covariance of the errors of the gradient of an output along the directions, shape (R, R).

        Args:
            theta: The parameters of the output, shape (C,).
            y: Its targets, shape (M,).
            dtype: The precision.
        """
        x, n, directions = self.x.double(), self.loss.n_samples, self.loss.directions
        z = x if self.layer is None else self.layer.standardized(x)
        weight, n_features = theta[: z.shape[1]], z.shape[1]
        rows = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)[:, : len(theta)]
        prediction = rows @ theta
        residual = y - prediction
        of_features = _data_variance(x, dtype)
        if self.layer is not None:
            # In standardised units: squares of the features themselves may be beyond float64.
            of_difference = _variance(x - self.layer.mean, torch.float64, self.layer.scale)
            of_features = _data_variance(x, torch.float64, self.layer.scale) + of_difference + _variance(z, dtype)
        of_prediction = _variance(rows * theta, dtype).sum(dim=1) + _variance(prediction, dtype)
        along = of_features @ weight.square() + of_prediction + _variance(residual, dtype) + _data_variance(y, dtype)
        seen = rows @ directions
        noise = seen.T @ (seen * along[:, None])
        crossed = ((of_features * residual[:, None]) @ (weight[:, None] * directions[:n_features])).T @ seen
        own = torch.zeros_like(theta)
        own[:n_features] = (of_features * residual.square()[:, None]).sum(dim=0)
        unit = torch.finfo(dtype).eps / 2
        alone = unit**2 / 6 * (rows * residual[:, None]).square().mean(dim=0)
        if self.layer is not None and self.loss.optimum.bias is None:
            shift = _variance(self.layer.mean, torch.float64, self.layer.scale)
            alone = alone + residual.mean() ** 2 * shift
        noise = (noise - crossed - crossed.T) / (len(x) * n)
        alone = alone + own / (len(x) * n)
        return (2 / self.loss.n_outputs) ** 2 * (noise + directions.T @ (alone[:, None] * directions))

    def _noise_of_the_way_back(self, original: Tensor) -> Tensor:
        """Return the variance of the errors made in turning an output's parameters to original units.

        Args:
            original: These parameters, shape (D + 1,), or (D,) where they have no intercept.
        """
        if self.layer is None:
            return torch.zeros_like(original)
        mean = self.layer.mean
        weight, intercept = original[: len(mean)], original[len(mean) :]
        of_weight, of_shift = _variance(weight, torch.float64), _variance(weight * mean, torch.float64)
        if not len(intercept):
            return of_weight
        of_bias = (of_weight * mean.square() + of_shift).sum() + _variance(intercept[0], torch.float64)
        if self.loss.optimum.bias is None:
            of_bias = of_bias + (weight.square() * _variance(mean, torch.float64)).sum()
        return torch.cat([of_weight, of_bias[None]])


def _variance(values: Tensor, dtype: torch.dtype, unit: Tensor | float = 1.0) -> Tensor:
    """Return q, the variance of the rounding error at values that are computed in a precision; 0 at 0."""
    binade = values / torch.frexp(values).mantissa  # 2^exponent, which torch.ldexp computes in float32
    ulp = torch.finfo(dtype).eps / 2 * binade / unit
    return torch.where(values == 0, 0.0, ulp.square() / 12)


def _data_variance(values: Tensor, dtype: torch.dtype, unit: Tensor | float = 1.0) -> Tensor:
    """Return the variance of the rounding error of data; values that float32 can represent have none."""
    values = values.double()
    return torch.where(values == values.float(), 0.0, _variance(values, dtype, unit))
