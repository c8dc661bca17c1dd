"""Least squares trained with a fixed kernel: what gradient descent does, component by component."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_numpy
from logitscope.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_SMALL = 1e-8
"""Below it ``(1 - exp(-z)) / z`` is 1 to rounding."""


class KernelDynamics:
    """Training of ``sum((f - y)**2) / (2 N)`` by gradient flow or descent, where the tangent kernel stays as it is.

    Each eigenvector of the kernel is a component of the residual that shrinks by itself, the faster the larger its
    eigenvalue (Jacot, Gabriel and Hongler, arXiv 1806.07572, section 5).

    Parameters
    ----------
    theta
        (N, N) tangent kernel of the training inputs, symmetric; eigenvalues below 0 are taken as 0.
    y
        (N,) or (N, O) targets.
    f0
        Outputs before training, of the shape of ``y``; 0 by default.
    n_train
        The N of the loss, where it is not the number of inputs.

    Attributes
    ----------
    eigvals, eigvecs
        (N,) from the largest on, and (N, N), a column each.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.theory import KernelDynamics
    >>> flow = KernelDynamics(np.diag([4.0, 1.0]), y=np.array([1.0, 1.0]))
    >>> flow.train_at(2.0).round(3), flow.max_stable_lr()
    (array([0.982, 0.632]), 1.0)
    """

    eigvals: Array
    eigvecs: Array

    def __init__(self, theta: Any, y: Any, f0: Any = None, *, n_train: int | None = None) -> None:
        kernel = _finite("theta", theta)
        targets = _finite("y", y)
        if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
            _refuse("theta", kernel.shape, "(N, N)")
        if targets.ndim not in (1, 2) or len(targets) != len(kernel):
            _refuse("y", targets.shape, f"({len(kernel)},) or ({len(kernel)}, O)")
        start = np.zeros_like(targets) if f0 is None else _finite("f0", f0)
        if start.shape != targets.shape:
            _refuse("f0", start.shape, str(targets.shape))
        if n_train is not None and n_train < 1:
            message = f"KernelDynamics: n_train is {n_train}; use 1 or more"
            raise ArgumentError(message)
        values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
        # What is rounding is 0: then no component of it is ever divided by.
        floor = len(kernel) * np.finfo(np.float64).eps * max(values[-1], 0.0)
        self.eigvals = np.where(values > floor, values, 0.0)[::-1].copy()
        self.eigvecs = vectors[:, ::-1].copy()
        self._y = targets
        self._n = len(kernel) if n_train is None else n_train
        self._residual = self.eigvecs.T @ (start - targets)

    def components(self, t: float) -> Array:
        """Residual along each eigenvector at time ``t`` of gradient flow: (N,) or (N, O)."""
        decay = np.exp(-self._exponents(t))
        return self._times(decay)

    def components_gd(self, k: int, lr: float) -> Array:
        """Residual along each eigenvector after ``k`` steps of gradient descent."""
        return self._times((1.0 - lr * self.eigvals / self._n) ** k)

    def train_at(self, t: float) -> Array:
        """Outputs on the training inputs at time ``t``, which may be infinite."""
        outputs: Array = self._y + self.eigvecs @ self.components(t)
        return outputs

    def predict(self, theta_test: Any, t: float, f0_test: Any = 0.0) -> Array:
        """Outputs on other inputs.

        Parameters
        ----------
        theta_test
            (M, N) tangent kernel between the other and the training inputs.
        t
            Time of gradient flow, which may be infinite: then this is kernel regression.
        f0_test
            (M,) or (M, O) outputs there before training.
        """
        moved = self._moved(t)
        spread = moved[:, None] if self._residual.ndim == 2 else moved
        kernel = self._between(theta_test)
        outputs: Array = _finite("f0_test", f0_test) - kernel @ (self.eigvecs @ (spread * self._residual))
        return outputs

    def gaussian(
        self, theta_test: Any, sigma_tt: Any, sigma_tx: Any, sigma_xx: Any, t: float
    ) -> tuple[Array, Array]:
        """Mean and covariance of the outputs over random starts (Lee et al., arXiv 1902.06720).

        Parameters
        ----------
        theta_test
            (M, N) tangent kernel between the other and the training inputs.
        sigma_tt, sigma_tx, sigma_xx
            Covariances at the start (``nngp_kernel``) of the other inputs (M, M), between them and the training
            inputs (M, N), and of the training inputs (N, N).
        t
            Time of gradient flow, which may be infinite.

        Returns
        -------
        mean, covariance
            (M,) or (M, O), and (M, M). At infinite time the covariance is not that of the posterior of ``nngp_kernel``.
        """
        mixing = self._between(theta_test) @ (self.eigvecs * self._moved(t)) @ self.eigvecs.T
        tt, tx, xx = (
            _finite(name, each)
            for name, each in (("sigma_tt", sigma_tt), ("sigma_tx", sigma_tx), ("sigma_xx", sigma_xx))
        )
        covariance = tt - mixing @ tx.T - tx @ mixing.T + mixing @ xx @ mixing.T
        return mixing @ self._y, (covariance + covariance.T) / 2

    def max_stable_lr(self) -> float:
        """Largest learning rate with which gradient descent does not diverge; infinite for a kernel of zeros."""
        largest = float(self.eigvals[0])
        return 2.0 * self._n / largest if largest > 0 else math.inf

    def _exponents(self, t: float) -> Array:
        if not t >= 0:
            message = f"KernelDynamics: t is {t}; use 0 or more"
            raise ArgumentError(message)
        # A component with eigenvalue 0 stays as it is, at infinite time too.
        return np.multiply(self.eigvals, t / self._n, out=np.zeros_like(self.eigvals), where=self.eigvals > 0)

    def _moved(self, t: float) -> Array:
        """Give ``(1 - exp(-lambda t / N)) / lambda``, and its limit for small eigenvalues."""
        exponents = self._exponents(t)
        limit = t / self._n if math.isfinite(t) else 0.0
        large = exponents >= _SMALL
        safe = np.where(large, self.eigvals, 1.0)
        return np.where(large, -np.expm1(-exponents) / safe, limit)

    def _times(self, factors: Array) -> Array:
        result: Array = (factors[:, None] if self._residual.ndim == 2 else factors) * self._residual
        return result

    def _between(self, theta_test: Any) -> Array:
        kernel = _finite("theta_test", theta_test)
        if kernel.ndim != 2 or kernel.shape[1] != len(self.eigvals):
            _refuse("theta_test", kernel.shape, f"(M, {len(self.eigvals)})")
        return kernel


def _finite(name: str, value: Any) -> Array:
    array = as_numpy("KernelDynamics", name, value).astype(np.float64)
    if not np.isfinite(array).all():
        message = f"KernelDynamics: {name} has numbers that are not finite; use finite ones"
        raise ArgumentError(message)
    return array


def _refuse(name: str, shape: tuple[int, ...], wanted: str) -> None:
    message = f"KernelDynamics: {name} has shape {shape}; use {wanted}"
    raise ShapeError(message)
