"""How far a larger batch helps: bounds of one update, the gradient noise scale, and the critical batch size.

Sources: Ma, Bassily and Belkin, The power of interpolation, ICML 2018 (Interpolation); McCandlish, Kaplan, Amodei et
al., An empirical model of large-batch training, 2018 (GradientNoise). Ma et al. write the loss with a 1/2; the formulas
hold as they are where beta and lambda are eigenvalues of the Hessian of our loss, (1 / K) mean |z'd - e|^2.

Letters: N samples, B batch, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gd_lightning.theory.full_batch import largest_stable_lr
from gd_lightning.theory.quadratic_loss import LinearLoss

_HALVINGS = 60  # of an interval, until nothing but rounding is left of it


def share_of_variance(n_samples: int, batch_size: int, replacement: bool = True) -> float:
    """Return the variance of a batch's mean in units of one sample's.

    It is 1 / B, or (N - B) / ((N - 1) B) for a batch without replacement.

    Args:
        n_samples: N.
        batch_size: B.
        replacement: Whether a batch may hold a sample twice.
    """
    if replacement:
        return 1 / batch_size
    return (n_samples - batch_size) / (max(n_samples - 1, 1) * batch_size)


def largest_sample_curvature(loss: LinearLoss) -> float:
    """Return beta, the largest eigenvalue of the Hessian of one sample's loss, (2 / K) max |z|^2."""
    return 2 / loss.n_outputs * loss.rows.square().sum(dim=1).max().item()


@dataclass(frozen=True)
class Interpolation:
    """What mini-batches are worth where the model can fit all samples exactly; bounds that one update cannot miss.

    Args:
        beta: The largest eigenvalue of the Hessian of one sample's loss.
        lambda_min: Smallest eigenvalue of the Hessian that is not 0; 0 where it is not known.
        lambda_max: Largest eigenvalue.

    Example:
        >>> bounds = Interpolation(beta=2.0, lambda_min=0.1, lambda_max=0.5)
        >>> bounds.critical_batch_size
        5.0
    """

    beta: float
    lambda_min: float
    lambda_max: float

    @classmethod
    def of(cls, loss: LinearLoss) -> Interpolation:
        """Take them from a loss."""
        return cls(largest_sample_curvature(loss), loss.lambda_min, loss.lambda_max)

    @property
    def critical_batch_size(self) -> float:
        """m* = beta / lambda_max + 1: below it twice the batch saves half of the updates, far above it none."""
        return self.beta / self.lambda_max + 1

    def best_lr(self, batch_size: int) -> float:
        """Return the learning rate with the smallest :meth:`contraction`.

        m / (beta + (m - 1) lambda_min) while m <= beta / (lambda_max - lambda_min) + 1, and
        2 m / (beta + (m - 1) (lambda_min + lambda_max)) above.

        Args:
            batch_size: m.
        """
        m, low, high = batch_size, self.lambda_min, self.lambda_max
        if (m - 1) * (high - low) <= self.beta:
            return m / (self.beta + (m - 1) * low)
        return 2 * m / (self.beta + (m - 1) * (low + high))

    def contraction(self, lr: float, batch_size: int) -> float:
        """Return a bound of the factor by which an update shrinks the expected squared error.

        The larger of (1 - lr lam)^2 + lr^2 lam (beta - lam) / m at the smallest and the largest eigenvalue; for samples
        of one norm it is reached.

        Args:
            lr: The learning rate.
            batch_size: m.
        """

        def factor(lam: float) -> float:
            return (1 - lr * lam) ** 2 + lr**2 * lam * (self.beta - lam) / batch_size

        return max(factor(self.lambda_min), factor(self.lambda_max))

    def largest_stable_lr(self, batch_size: int, momentum: float = 0.0, nesterov: bool = False) -> float:
        """Return a learning rate below which the expected squared error is sure to shrink in the long run.

        Without momentum it is 2 m / (beta + (m - 1) lambda_max), where :meth:`contraction` is 1. An update adds noise
        whose power is at most lr^2 / m times the sum of lam (beta - lam) E d^2 over the directions of eigenvectors, d
        being the error there. In its direction noise of power s settles to the variance s G / (lr lam): an update is a
        filter of second order. So the error shrinks where less noise comes back than went in:

            lr (beta - lam) G / m < 1    at lambda_min and at lambda_max,    a = lr lam,
            G = (1 + mu) / ((1 - mu) (2 (1 + mu) - a))    (momentum mu)
            G = (1 + 2 mu + 2 mu^2 - mu (1 + 2 mu) (1 - a)) / ((1 - mu (1 - a)) (1 + (1 + 2 mu) (1 - a)))    (Nesterov)

        For samples in one direction, each of one norm or 0, it is the limit itself; the tests enumerate all batches.

        Args:
            batch_size: m.
            momentum: mu, from 0 to below 1.
            nesterov: Whether the momentum is Nesterov's.

        Example:
            >>> bounds = Interpolation(beta=2.0, lambda_min=0.0, lambda_max=0.5)
            >>> [round(bounds.largest_stable_lr(size), 9) for size in (1, 4, 1000)]
            [1.0, 2.285714286, 3.988035892]
        """
        mu = momentum

        def shrinks(lr: float, lam: float) -> bool:
            a = lr * lam
            if nesterov:
                above = 1 + 2 * mu + 2 * mu**2 - mu * (1 + 2 * mu) * (1 - a)
                below = (1 - mu * (1 - a)) * (1 + (1 + 2 * mu) * (1 - a))
            else:
                above, below = 1 + mu, (1 - mu) * (2 * (1 + mu) - a)
            return lr * (self.beta - lam) * above < batch_size * below  # below is 0 at the largest lr

        low, high = 0.0, largest_stable_lr(self.lambda_max, momentum, nesterov)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            stable = shrinks(middle, self.lambda_min) and shrinks(middle, self.lambda_max)
            low, high = (middle, high) if stable else (low, middle)
        return high


@dataclass(frozen=True)
class GradientNoise:
    """The gradient at given parameters, and how it varies from sample to sample.

    Args:
        squared_norm: |g|^2 of the mean gradient g.
        trace: tr(S) of the covariance S of the samples' gradients (the mean over all N, not N - 1).
        curvature: g'H g.
        curved_trace: tr(H S).
        n_samples: N.
    """

    squared_norm: float
    trace: float
    curvature: float
    curved_trace: float
    n_samples: int

    @classmethod
    def of_gradients(cls, gradients: Tensor, hessian: Tensor) -> GradientNoise:
        """Take it from the gradients of all samples.

        Args:
            gradients: Shape (N, P).
            hessian: Of the mean loss, shape (P, P).
        """
        gradients, hessian = gradients.double(), hessian.double()
        mean = gradients.mean(dim=0)
        away = gradients - mean
        return cls(
            squared_norm=mean.square().sum().item(),
            trace=away.square().sum(dim=1).mean().item(),
            curvature=(mean @ hessian @ mean).item(),
            curved_trace=((away @ hessian) * away).sum(dim=1).mean().item(),
            n_samples=len(gradients),
        )

    @classmethod
    def of_linear(cls, loss: LinearLoss, error: Tensor) -> GradientNoise:
        """Take it from a linear regressor's loss.

        Args:
            loss: The loss on the training set.
            error: The parameters less the optimum, as ``loss.error`` gives it, shape (R, K).
        """
        wrong = 2 / loss.n_outputs * (loss.rows @ error - loss.residuals)
        mean = loss.rows.T @ wrong / len(loss.rows)
        sizes = wrong.square().sum(dim=1)  # of a sample's gradient z (z'd - e)' all entries are products
        weighted = loss.rows.square() @ loss.eigenvalues
        squared, curvature = mean.square().sum(), (loss.eigenvalues[:, None] * mean.square()).sum()
        return cls(
            squared_norm=squared.item(),
            trace=((sizes * loss.rows.square().sum(dim=1)).mean() - squared).item(),
            curvature=curvature.item(),
            curved_trace=((sizes * weighted).mean() - curvature).item(),
            n_samples=loss.n_samples,
        )

    @property
    def simple_scale(self) -> float:
        """B_simple = tr(S) / |g|^2, in samples."""
        return self.trace / self.squared_norm

    @property
    def scale(self) -> float:
        """B_noise = tr(H S) / g'H g, in samples.

        It is the critical batch size: an update from so many samples is half as good as one without noise.
        """
        return self.curved_trace / self.curvature

    def expected_squared_norm(self, batch_size: int, replacement: bool = True) -> float:
        """Return E|g_B|^2 = |g|^2 + tr(S) / B, for a batch of B samples."""
        return self.squared_norm + self.trace * share_of_variance(self.n_samples, batch_size, replacement)

    def expected_progress(self, lr: float, batch_size: int, replacement: bool = True) -> float:
        """Return by how much an update is expected to lower the loss: lr |g|^2 - lr^2 (g'H g + tr(H S) / B) / 2.

        It is exact for a quadratic loss.
        """
        noise = self.curved_trace * share_of_variance(self.n_samples, batch_size, replacement)
        return lr * self.squared_norm - lr**2 * (self.curvature + noise) / 2

    def best_lr(self, batch_size: int, replacement: bool = True) -> float:
        """Return the learning rate with the most expected progress, |g|^2 / (g'H g + tr(H S) / B)."""
        return self.squared_norm / (
            self.curvature + self.curved_trace * share_of_variance(self.n_samples, batch_size, replacement)
        )
