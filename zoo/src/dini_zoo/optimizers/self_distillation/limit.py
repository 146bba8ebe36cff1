r"""The limit of self-distillation as a fixed point, which dini solves and differentiates.

Of one weight :math:`\alpha` the steps are :math:`\hat Y \leftarrow A (\alpha Y + (1 - \alpha) \hat Y)` with
:math:`A = K (K + \lambda I)^{-1}`, a contraction with the factor :math:`(1 - \alpha) a_1`. Its fixed point is ridge
regression with the ridge :math:`\lambda / \alpha`: a problem whose solution and derivatives are known exactly.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import dini

from .mixing import distillation_targets, require_shares
from .ridge import Scalar, Targets
from .spectral import SelfDistillation


def _step(fitted: Targets, model: SelfDistillation, alpha: Scalar) -> Targets:
    return model.refit(distillation_targets(model.Y, fitted, alpha)).fitted


#: The limit, a fixed point in the fitted values, with the parameters `(model, alpha)`.
distilled = dini.FixedPoint(_step)


def limit_by_iteration(
    model: SelfDistillation,
    alpha: Scalar,
    *,
    solver: dini.Solver | None = None,
    differentiation: dini.Differentiation | None = None,
    on_failure: Any = "raise",
) -> dini.Solution:
    r"""Distill again and again until nothing changes: :math:`\hat Y_\infty`, with its derivatives.

    Each step of the iteration is one of self-distillation, from the plain fit on. What it ends at is the fitted values
    of :meth:`SelfDistillation.limit`, which takes one solve and no steps: this form is for models without a closed
    form, of which it is the pattern, and to see what an implicit derivative is worth.

    Parameters
    ----------
    model
        The regression.
    alpha
        The share of the ground truth, from 0 to 1.
    solver
        Plain iteration if it is not given.
    differentiation
        Implicit if it is not given.
    on_failure
        As for :func:`dini.solve`.

    Examples
    --------
    >>> import jax
    >>> from dini_zoo.optimizers.self_distillation import SelfDistillation, gaussian_kernel
    >>> x = jax.numpy.linspace(0.0, 1.0, 5)[:, None]
    >>> model = SelfDistillation.from_kernel(gaussian_kernel(x, x, 2.0), x[:, 0], 0.1)
    >>> last = lambda limit: lambda alpha: limit(alpha)[-1]
    >>> one = last(lambda alpha: limit_by_iteration(model, alpha).x)
    >>> other = last(lambda alpha: model.limit(alpha).fitted)
    >>> print(f"{one(0.5):.3f} {other(0.5):.3f} {jax.grad(one)(0.5):.3f} {jax.grad(other)(0.5):.3f}")
    0.839 0.839 0.202 0.202
    """
    require_shares("alpha", alpha)
    alpha = jnp.asarray(alpha, model.Y.dtype)
    return dini.solve(
        distilled,
        dini.FixedPointIteration(max_steps=10_000) if solver is None else solver,
        model.refit(model.Y).fitted,
        model,
        alpha,
        differentiation=dini.Implicit() if differentiation is None else differentiation,
        on_failure=on_failure,
    )
