r"""All steps of self-distillation in kernel ridge regression, from one eigendecomposition.

A model is fitted to targets :math:`Y`; then again and again to a mixture of these and of what the last fit says,

.. math:: T_1 = Y, \qquad T_t = \alpha_t Y + (1 - \alpha_t) \hat Y_{t-1}, \qquad
          \beta_t = (K + \lambda I)^{-1} T_t, \qquad \hat Y_t = K \beta_t .

With :math:`K = V \operatorname{diag}(d) V^\top` and :math:`a = d / (d + \lambda)` every step is
:math:`\hat Y_t = V \operatorname{diag}(b^{(t)}) V^\top Y`, where :math:`b^{(1)} = a` and
:math:`b^{(t)} = a (\alpha_t + (1 - \alpha_t) b^{(t-1)})`. Of one weight :math:`\alpha` the steps go linearly, with the
factor :math:`(1 - \alpha) a_1`, to ridge regression with the ridge :math:`\lambda / \alpha`.

Note the sign of the mixture: :math:`\alpha` is the share of the ground truth.

References
----------
K. Borup, L. N. Andersen, "Even your teacher needs guidance: ground-truth targets dampen regularization imposed by
self-distillation", NeurIPS 2021 (arXiv 2102.13088).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

import dini
from dini_zoo.kit.checking import at_least

from .mixing import distillation_targets, optimal_mixing_weight, require_shares
from .ridge import KernelRidgeFit, Scalar, Targets, asymmetry, checked, rounding, square_root, values


class Steps(NamedTuple):
    """The first `T` steps of self-distillation."""

    targets: Float[Array, "T n *c"]
    r""":math:`T_t`."""
    dual_coef: Float[Array, "T n *c"]
    r""":math:`\beta_t`."""
    fitted: Float[Array, "T n *c"]
    r""":math:`\hat Y_t`."""


class SelfDistillation(eqx.Module):
    r"""Self-distillation in kernel ridge regression; make it by `from_kernel`.

    The mixing weights that its methods take are those of the steps 2, 3, …, T: `T - 1` of them make `T` steps. Step 1
    is the plain fit. Where all steps but one are over, a step costs two products with an `n × n` matrix.

    Values come from the eigendecomposition, and derivatives do not: each solve is :func:`dini.linear.solve`, with the
    decomposition for its linear solver, so that a derivative in the kernel, the ridge, the targets or the weights is
    one more solve of the same kind. (The derivative of eigenvectors divides by differences of eigenvalues.) The
    eigenvalues alone have the derivative that JAX gives them, which is right where they are simple.

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.optimizers.self_distillation import SelfDistillation, gaussian_kernel
    >>> x = jax.numpy.linspace(0.0, 1.0, 5)[:, None]
    >>> model = SelfDistillation.from_kernel(gaussian_kernel(x, x, 2.0), x[:, 0], 0.1)
    >>> model.steps([0.5, 0.5]).fitted.shape, model.spectral_filter([0.5, 0.5]).shape
    ((3, 5), (3, 5))
    """

    K: Float[Array, "n n"]
    Y: Targets
    ridge: Float[Array, ""]
    weights: Float[Array, " n"] | None
    eigenvalues: Float[Array, " n"]
    r""":math:`d`, descending, those below zero by rounding as zero. With weights, of :math:`R K R`."""
    eigenvectors: Float[Array, "n n"]
    """Their vectors in columns, constants to every derivative."""

    @classmethod
    def from_kernel(
        cls, K: Float[Array, "n n"], Y: Targets, ridge: Scalar, weights: Float[Array, " n"] | None = None
    ) -> Self:
        """Decompose a kernel.

        Parameters
        ----------
        K
            Between the training points, symmetric and positive semidefinite.
        Y
            The ground truth, a number or a row for each training point.
        ridge
            It is not divided by the number of points.
        weights
            Of the squared errors of the points, positive; ones if they are not given.

        Raises
        ------
        ValueError
            As :func:`kernel_ridge_fit`; if `K` has an eigenvalue below zero by more than rounding; and if the ridge is
            so small that `K + ridge I` is singular in this precision. Under `jit`, where values are not known,
            everything that is computed from such a model is not a number.
        """
        K, Y, ridge, weights = checked(K, Y, ridge, weights)
        d, V, indefinite, lost = _decomposed(K, ridge, weights)
        ends = f"the eigenvalues of K are from {d[-1]:.1e} to {d[0]:.1e}" if values(d) is not None else ""
        if values(indefinite):
            raise ValueError(f"K must be positive semidefinite: {ends}.")
        if values(lost):
            raise ValueError(
                f"ridge must be large enough for K + ridge I to be regular in {d.dtype}: given {ridge:.1e}, and {ends}."
            )
        return cls(K, Y, ridge, weights, jnp.where(d > 0, d, 0.0), V)

    def spectral_filter(self, alphas: ArrayLike) -> Float[Array, "T n"]:
        r"""The factor :math:`b^{(t)}_k` of each step and eigenvalue, from the greatest to the least."""
        return _factors(self.eigenvalues, self.ridge, self._shares(alphas))

    def steps(self, alphas: ArrayLike) -> Steps:
        """Targets, coefficients and fitted values of every step."""
        return _steps(self, self._shares(alphas))

    def targets(self, alphas: ArrayLike) -> Float[Array, "T n *c"]:
        r"""What each step is fitted to, :math:`T_1, \dots, T_T`."""
        return self.steps(alphas).targets

    def dual_coef(self, alphas: ArrayLike, step: int | None = None) -> Targets:
        r"""The coefficients :math:`\beta_t` of a step from 1 to `T`; of the last one if none is given."""
        alphas = self._shares(alphas)
        last = len(alphas) + 1
        if step is not None and not 1 <= step <= last:
            raise ValueError(f"step must be from 1 to {last}, with {last - 1} weights: given {step}.")
        return self.steps(alphas[: (step or last) - 1]).dual_coef[-1]

    def predict(self, K_new: Float[Array, "m n"], alphas: ArrayLike, step: int | None = None) -> Float[Array, m * c]:
        """What a step says of other points: rows of `K_new`, whose columns are the training points."""
        return self._kernel_to(K_new) @ self.dual_coef(alphas, step)

    def limit(self, alpha: Scalar) -> KernelRidgeFit:
        r"""What infinitely many steps of one weight end at: :math:`\beta = \alpha (\alpha K + \lambda I)^{-1} Y`.

        It is ridge regression with the ridge :math:`\lambda / \alpha`, and the zero function for :math:`\alpha = 0`.
        """
        alpha = jnp.asarray(alpha, self.Y.dtype)
        require_shares("alpha", alpha)
        return _fit(self, alpha * self.Y, alpha)

    def refit(self, targets: Targets) -> KernelRidgeFit:
        """The ridge regression of other targets than the ground truth."""
        if jnp.shape(targets) != self.Y.shape:
            raise ValueError(f"targets must be of the shape {self.Y.shape} of Y: given {jnp.shape(targets)}.")
        return _fit(self, jnp.asarray(targets, self.Y.dtype), 1.0)

    def greedy_weights(
        self,
        K_val: Float[Array, "m n"],
        Y_val: Float[Array, m * c],
        steps: int,
        clip: tuple[float, float] = (0.0, 1.0),
    ) -> Float[Array, " T-1"]:
        """The weights of the steps 2 to `steps`, each the best one given those before.

        What is best is the squared error on held-out points: `K_val` has these in its rows, the training points in its
        columns. Of the training points themselves the ground truth would always be the best target.
        See :func:`optimal_mixing_weight`.
        """
        K_val, Y_val = self._kernel_to(K_val), jnp.asarray(Y_val, self.Y.dtype)
        if Y_val.shape != (len(K_val), *self.Y.shape[1:]):
            raise ValueError(
                f"Y_val must be of the shape {(len(K_val), *self.Y.shape[1:])} that K_val and Y ask for: given "
                f"{Y_val.shape}."
            )
        at_least("steps", steps, 1)
        require_shares("clip", np.asarray(clip))
        if not clip[0] <= clip[1]:
            raise ValueError(f"clip must have the least share first: given {clip}.")
        return _greedy(self, K_val, Y_val, steps, clip)

    def _shares(self, alphas: ArrayLike) -> Float[Array, " T-1"]:
        alphas = jnp.asarray(alphas, self.Y.dtype)
        if alphas.ndim != 1:
            raise ValueError(
                f"alphas must have a number for each of the steps 2, 3, …: given an array of shape {alphas.shape}."
            )
        require_shares("alphas", alphas)
        return alphas

    def _kernel_to(self, K_new: Any) -> Float[Array, "m n"]:
        K_new = jnp.asarray(K_new, self.Y.dtype)
        if K_new.ndim != 2 or K_new.shape[1] != len(self.K):
            raise ValueError(
                f"K_new must have a column for each of the {len(self.K)} training points: given {K_new.shape}."
            )
        return K_new


# compiled, so that they are compiled once: what takes values to be looked at is above


@jax.jit
def _decomposed(K: Array, ridge: Array, weights: Array | None) -> tuple[Array, ...]:
    """Eigenvalues, descending, and vectors; whether one is below zero beyond rounding, and whether one is lost."""
    root, eps = square_root(weights, K), float(jnp.finfo(K.dtype).eps)
    d, V = jnp.linalg.eigh(root * K * jnp.ravel(root))
    d, V = d[::-1], jax.lax.stop_gradient(V[:, ::-1])
    symmetric = jnp.max(jnp.abs(K - K.T)) <= asymmetry(K.dtype) * jnp.max(jnp.abs(K))
    indefinite = ~(d[-1] >= -rounding(K) * d[0])
    # in the rounding of the greatest one
    lost = ~(d[-1] + ridge > 10 * eps * d[0])
    # under jit no error can be raised: a wrong result is NaN
    V = jnp.where(symmetric & ~indefinite & ~lost, V, jnp.nan)
    return d, V, indefinite, lost


@jax.jit
def _factors(d: Array, ridge: Array, alphas: Array) -> Float[Array, "T n"]:
    a = d / (d + ridge)

    def step(b: Array, alpha: Array) -> tuple[Array, Array]:
        b = a * (alpha + (1 - alpha) * b)
        return b, b

    return jnp.concatenate([a[None], jax.lax.scan(step, a, alphas)[1]])


@jax.jit
def _fit(model: SelfDistillation, targets: Targets, alpha: Scalar) -> KernelRidgeFit:
    r""":math:`(\alpha K + \lambda I)^{-1}` of targets: values by the decomposition, derivatives by dini's solve."""
    root = square_root(model.weights, targets)
    V = jax.lax.stop_gradient(model.eigenvectors)
    scale = jax.lax.stop_gradient(alpha * model.eigenvalues + model.ridge)

    def spectral(matvec: Any, b: Array) -> Array:
        return V @ ((V.T @ b).T / scale).T

    dual_coef = root * dini.linear.solve(
        lambda w: alpha * (root * (model.K @ (root * w))) + model.ridge * w,
        root * targets,
        structure="positive definite",
        solver=spectral,
        on_failure="ignore",  # the decomposition was looked at when it was made
    )
    return KernelRidgeFit(dual_coef, model.K @ dual_coef)


@jax.jit
def _steps(model: SelfDistillation, alphas: Array) -> Steps:
    def step(fitted: Array, alpha: Array) -> tuple[Array, Steps]:
        targets = distillation_targets(model.Y, fitted, alpha)
        fit = _fit(model, targets, 1.0)
        return fit.fitted, Steps(targets, fit.dual_coef, fit.fitted)

    # the first step is a mixture without a share of what there is none of
    every = jnp.concatenate([jnp.ones(1, alphas.dtype), alphas])
    return jax.lax.scan(step, jnp.zeros_like(model.Y), every)[1]


@partial(jax.jit, static_argnums=3)
def _greedy(model: SelfDistillation, K_val: Array, Y_val: Array, steps: int, clip: Any) -> Float[Array, " T-1"]:
    first = _fit(model, model.Y, 1.0)
    teacher = first.predict(K_val)

    def step(dual_coef: Array, _: None) -> tuple[Array, Array]:
        student = _fit(model, model.K @ dual_coef, 1.0).dual_coef
        alpha = jnp.clip(optimal_mixing_weight(teacher, K_val @ student, Y_val, clip=None), *clip)
        # a fit is linear in its targets
        return alpha * first.dual_coef + (1 - alpha) * student, alpha

    return jax.lax.scan(step, first.dual_coef, None, length=steps - 1)[1]
