"""A preconditioner that is made of products with random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..checks.records import record
from ..checks.settings import require_count
from ..trees import Tree
from ..trees.products import dot


@record
class Nystrom:
    r"""The randomized Nyström preconditioner of a positive definite map, for :class:`CG` and :class:`MINRES`.

    Of ``rank`` products :math:`Y = A \Omega` with orthonormal random columns, the map is approximated by
    :math:`\hat A = Y (\Omega^\top Y)^{-1} Y^\top = U \Lambda U^\top`, and

    .. math:: P^{-1} = \lambda_k\, U \Lambda^{-1} U^\top + (I - U U^\top),

    with the smallest eigenvalue :math:`\lambda_k` of :math:`\Lambda`. What is left of the condition number is about
    :math:`\lambda_k` over the smallest eigenvalue of ``A``: it is useful where few eigenvalues are large, as those of
    the Hessian of a regularized fit are. The solution and its accuracy are the solver's own, whatever the random
    numbers.

    Parameters
    ----------
    rank
        How many products; at most as many as there are unknowns are taken. Each solve computes its own.
    seed
        Of the random numbers.

    Raises
    ------
    TypeError
        If another solver than these two applies it.

    References
    ----------
    Frangella, Tropp, Udell, "Randomized Nyström preconditioning", SIAM J. Matrix Anal. Appl. 2023 (arXiv 2110.02820),
    algorithm 2.1. In hypergradients: Hataya, Yamada, "Nyström method for accurate and scalable implicit
    differentiation", AISTATS 2023 (arXiv 2302.09726), which takes the approximation for the map itself.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> d = 1.0 + 1e3 * 0.5 ** jnp.arange(1000.0)
    >>> solver = linear.CG(preconditioner=linear.Nystrom(rank=20), max_steps=30)
    >>> w = linear.solve(lambda w: d * w, jnp.ones(1000), structure="positive definite", solver=solver)
    >>> bool(jnp.abs(d * w - 1).max() < 1e-3)
    True
    """

    rank: int = field(default=20, metadata={"static": True})
    seed: int = 0

    def __post_init__(self) -> None:
        require_count("Nystrom's rank", self.rank)

    @property
    def transposed(self) -> Nystrom:
        """Itself: the map is symmetric."""
        return self

    def closed(self, like: Tree) -> Nystrom:
        """Return itself, which closes over nothing."""
        return self

    def __call__(self, r: Any) -> Any:
        """Refuse: it is made of the map, which only some solvers give it."""
        raise TypeError("Nystrom() is a preconditioner of CG() and MINRES(), for positive definite maps.")

    def of(self, matvec: Callable[[Any], Any], like: Tree) -> Callable[[Any], Any]:
        """Return the preconditioner of a map of trees such as ``like``."""
        flat, unravel = ravel_pytree(like)
        size, dtype = flat.size, flat.dtype
        rank = min(self.rank, size)
        key = jax.random.key(self.seed)
        test = jnp.linalg.qr(jax.random.normal(key, (size, rank), dtype))[0]
        image = jax.vmap(lambda column: ravel_pytree(matvec(unravel(column)))[0].astype(dtype), 1, 1)(test)
        image = jax.lax.stop_gradient(image)
        # a shift of the size of rounding makes the small matrix positive definite, and is taken off again
        shift = jnp.finfo(dtype).eps * jnp.linalg.norm(image)
        image = image + shift * test
        small = dot(test.T, image)
        factor = jnp.linalg.cholesky(0.5 * (small + small.T))
        half = jax.scipy.linalg.solve_triangular(factor, image.T, lower=True).T
        basis, values, _ = jnp.linalg.svd(half, full_matrices=False)
        values = jnp.maximum(values**2 - shift, shift)
        weights = values[-1] / values - 1
        # a map that is not positive definite has no factor: then there is no preconditioner
        usable = jnp.all(jnp.isfinite(weights)) & jnp.all(jnp.isfinite(basis))
        weights, basis = jnp.where(usable, weights, 0), jnp.where(usable, basis, 0)

        def apply(r: Any) -> Any:
            vector, back = ravel_pytree(r)
            return back((vector + dot(basis, weights * dot(basis.T, vector))).astype(vector.dtype))

        return apply
