"""Preconditioners and initial guesses that are right in both directions."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..functions import as_function, close
from ..trees import Tree
from ._nystrom import Nystrom
from ._protocol import Matvec


@record
class Preconditioner:
    r"""A linear map :math:`P \approx A^{-1}`, with its transpose :math:`P^\top \approx A^{-\top}`.

    The iterative solvers of :mod:`dini.linear` take one, or a plain function ``r -> P r``, which becomes one. A
    derivative in reverse mode solves the transposed system and applies the transpose of the preconditioner to it.

    Parameters
    ----------
    apply
        The function ``r -> P r``, from trees like the right-hand side to such trees. CG and MINRES need it to be
        symmetric and positive definite.
    apply_transposed
        The function ``r -> P.T r``. By default JAX transposes ``apply``, which needs it to be a linear program; pass
        it where ``apply`` is not one (it calls the host, say).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini import linear
    >>> d = jnp.linspace(1.0, 1e4, 1000)
    >>> A = lambda w: d * w + 0.1 * jnp.roll(w, 1)
    >>> solver = linear.GMRES(preconditioner=lambda r: r / d, max_steps=20)
    >>> w = linear.solve(A, jnp.ones(1000), solver=solver)
    >>> bool(jnp.abs(A(w) - 1).max() < 1e-3)
    True
    """

    apply: Any
    apply_transposed: Any = None
    flipped: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        # JAX rebuilds preconditioners from arbitrary leaves: only what a user passes is converted
        for name in ("apply", "apply_transposed"):
            fun = getattr(self, name)
            if callable(fun):
                object.__setattr__(self, name, as_function(fun, f"Preconditioner's {name}"))

    def __call__(self, r: Any) -> Any:
        """Return the product, a constant of differentiation."""
        if not self.flipped:
            out = self.apply(r)
        elif self.apply_transposed is not None:
            out = self.apply_transposed(r)
        else:
            out = jax.linear_transpose(self.apply, r)(r)[0]
        trees.require_same("The value of the preconditioner", out, r, "the right-hand side")
        return out

    @property
    def transposed(self) -> Preconditioner:
        """The transposed preconditioner."""
        return dataclasses.replace(self, flipped=not self.flipped)

    def closed(self, like: Tree) -> Preconditioner:
        """Return the preconditioner with everything that its functions close over made explicit."""
        back = None if self.apply_transposed is None else close(self.apply_transposed, like)
        return Preconditioner(close(self.apply, like), back, self.flipped)


def as_preconditioner(given: Any) -> Any:
    """Return a preconditioner for a function, for an object with the function ``transposed``, or for one as it is."""
    if given is None or isinstance(given, Preconditioner | Nystrom) or not callable(given):
        return given
    return Preconditioner(given, getattr(given, "transposed", None))


def fitted(matvec: Matvec, guess: Any, b: Any) -> Any:
    r"""Return the multiple of a guess that leaves the smallest residual; so no guess is worse than zero.

    The multiple is :math:`\langle A w, b\rangle / \|A w\|^2`. Right-hand sides are scaled before a solve, and a guess
    from another outer iteration belongs to another one anyway.
    """
    trees.require_same("The initial guess of a linear solver", guess, b, "the right-hand side")
    guess = jax.lax.stop_gradient(guess)
    top = trees.max_abs(guess)
    guess = trees.scale(jnp.where(top > 0, 1 / jnp.where(top > 0, top, 1), 0), guess)
    image = matvec(guess)
    squared = trees.vdot(image, image)
    usable = squared > 0
    return trees.scale(jnp.where(usable, trees.vdot(image, b) / jnp.where(usable, squared, 1), 0), guess)
