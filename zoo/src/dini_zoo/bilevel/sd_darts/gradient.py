r"""The gradient of the validation loss in the mixture, in three orders.

With :math:`L` the training loss, :math:`F` the validation loss, and :math:`H = \nabla^2_{ww} L`,

.. math:: \text{first:} \quad & \nabla_\alpha F(w, \alpha), \\
          \text{second:} \quad & \nabla_\alpha F(w', \alpha) - \xi \, \nabla^2_{\alpha w} L \, \nabla_w F(w', \alpha),
          \qquad w' = w - \xi \nabla_w L, \\
          \text{implicit:} \quad & \nabla_\alpha F - \nabla^2_{\alpha w} L \, \tilde H^{-1} \nabla_w F, \qquad
          \tilde H^{-1} = \xi \sum_{k=0}^K (I - \xi H)^k \text{ or } (H + \delta I)^{-1} .

All of them are the same product of dini's, :func:`dini.root_vjp` of the condition :math:`\nabla_w L = 0`, with another
approximation of the inverse: its series has one term, :math:`K + 1`, or is a solve.

References
----------
H. Liu, K. Simonyan, Y. Yang, "DARTS: differentiable architecture search", ICLR 2019 (arXiv 1806.09055). M. Zhang, S.
Su, S. Pan, X. Chang, E. Abbasnejad, R. Haffari, "iDARTS: differentiable architecture search with stochastic implicit
gradients", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
from jaxtyping import Array

import dini
from dini_zoo.kit.checking import at_least, not_negative, one_of

Tree = Any
type Loss = Callable[[Tree, Tree, Any], Array]
type Mode = Literal["first", "second", "implicit", "cg"]
MODES = ("first", "second", "implicit", "cg")


def arch_gradient(
    train: Loss,
    validation: Loss,
    w: Tree,
    alpha: Tree,
    batch_train: Any,
    batch_validation: Any,
    *,
    mode: Mode = "first",
    xi: Any = None,
    terms: int = 2,
    damping: Any = 0.0,
    momentum: Tree | None = None,
) -> Tree:
    r"""The gradient in `alpha`.

    Parameters
    ----------
    train, validation
        :math:`L` and :math:`F`: `loss(w, alpha, batch)`, a number.
    w, alpha
        Weights and mixture, trees of arrays of floats.
    batch_train, batch_validation
        They should have no example in common.
    mode
        `"first"`, `"second"`, `"implicit"` for the truncated series, or `"cg"` for a solve by conjugate gradients.
    xi
        :math:`\xi`: the learning rate of the weights for the second order; less than one over the largest eigenvalue of
        `H` for the series.
    terms
        :math:`K`. With 0 the series is that of the second order, at `w`.
    damping
        :math:`\delta`, for conjugate gradients: large enough that :math:`H + \delta I` is positive definite.
    momentum
        Added to the gradient in :math:`w'`, as momentum and weight decay are; a constant.

    Raises
    ------
    ValueError
        For settings out of range.
    DerivativeError
        Where conjugate gradients did not solve the system, or found it indefinite; where the series of `"implicit"`
        diverges. Under `jax.vmap` the gradient of such a lane is NaN.

    Examples
    --------
    >>> train = lambda w, a, _: (w - a) ** 2
    >>> validation = lambda w, a, _: w**2
    >>> for mode in ("first", "second", "implicit", "cg"):
    ...     print(mode, arch_gradient(train, validation, 1.0, 1.0, None, None, mode=mode, xi=0.25))
    first 0.0
    second 1.0
    implicit 1.75
    cg 2.0
    """
    one_of("mode", mode, MODES)
    at_least("terms", terms, 0)
    not_negative("damping", damping)
    if xi is not None:
        # at the end of a schedule it may be zero
        not_negative("xi", xi)
    elif mode in ("second", "implicit"):
        raise ValueError(f"xi must be given for mode {mode!r}: the step of the weights.")
    w, alpha = (jax.tree.map(jax.numpy.asarray, tree) for tree in (w, alpha))
    if mode == "first":
        return jax.grad(validation, argnums=1)(w, alpha, batch_validation)
    at = w
    if mode == "second":
        slope = jax.grad(train)(w, alpha, batch_train)
        if momentum is not None:
            slope = jax.tree.map(lambda d, m: d + m, slope, momentum)
        at = jax.tree.map(lambda w, d: w - jax.numpy.asarray(xi, w.dtype) * d, w, slope)
    cotangent, direct = jax.grad(validation, argnums=(0, 1))(at, alpha, batch_validation)
    if mode == "cg":
        inverse = dini.linear.Ridge(damping, dini.linear.CG())
    else:
        inverse = dini.linear.Series(1 if mode == "second" else terms + 1, xi)
    condition = lambda w, alpha: jax.grad(train)(w, alpha, batch_train)
    # the point is where training is, not a minimum: what the product says is all that is asked for
    # a series has no use for symmetry: to declare it would add a test of it, two fifths of the program
    structure = "positive definite" if mode == "cg" else None
    (through,) = dini.root_vjp(condition, w, (alpha,), cotangent, inverse, structure=structure)
    return jax.tree.map(lambda a, b: a + b, direct, through)
