r"""Sparse codes: the elastic net of each patient on the atoms of a dictionary.

The rows of :math:`D \in \mathbb{R}^{k \times p}` are atoms. The code of :math:`x \in \mathbb{R}^p` is

.. math:: z^\star(x, D) = \arg\min_{z \in \mathbb{R}^k} \; \tfrac12 \|x - D^\top z\|^2
          + \lambda \left(\|z\|_1 + \tfrac{\gamma}{2} \|z\|^2\right) .

It depends on ``D`` smoothly as long as its support stays. On the support :math:`S` its derivative is that of
:math:`H z_S = D_S x - \lambda\, \mathrm{sign}(z_S)` with :math:`H = D_S D_S^\top + \lambda\gamma I`, a system for each
patient, of at most :math:`k` unknowns. That is what dini solves for a penalty that treats each element on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least

Atoms = Float[Array, "k p"]
Codes = Float[Array, "m k"]


def _fit(z: Float[Array, " k"], x: Float[Array, " p"], D: Atoms) -> Float[Array, ""]:
    return 0.5 * jnp.sum((x - z @ D) ** 2)


@dataclass(frozen=True)
class SparseCoding:
    """How codes are computed.

    Parameters
    ----------
    strength
        The strength `λ` of the penalty.
    ratio
        The share `γ` of the square in it. With a positive one the code is unique.
    steps
        Of FISTA, with the step size `1 / ‖D‖²`. All are taken.

    Examples
    --------
    Codes on orthogonal atoms are soft-thresholded and shrunk, here by 0.5 and 1.25:

    >>> import jax.numpy as jnp
    >>> from dini_zoo.implicit.dictionary_learning import SparseCoding
    >>> coding = SparseCoding(strength=0.5, ratio=0.5, steps=50)
    >>> coding.encode(jnp.array([[3.0, -0.1], [0.0, -1.75]]), jnp.eye(2)).x.round(5).tolist()
    [[2.0, 0.0], [0.0, -1.0]]
    """

    strength: float = 0.1
    ratio: float = 0.1
    steps: int = 150

    def __post_init__(self) -> None:
        for name, value in (("strength", self.strength), ("ratio", self.ratio)):
            if not value >= 0:
                raise ValueError(f"SparseCoding's {name} must not be negative: given {value!r}.")
        at_least("steps", self.steps, 1)

    @property
    def problem(self) -> dini.Minimize:
        """The problem of one code, a function of the code and the parameters `(x, D)`."""
        return dini.Minimize(_fit, penalty=dini.penalties.ElasticNet(self.strength, self.ratio))

    def solver(self, D: Atoms) -> dini.ProximalGradient:
        """FISTA with a fixed step, and no test whether it may stop."""
        # the step is a constant of the solver: the code does not depend on it
        curvature = jax.lax.stop_gradient(jnp.linalg.norm(D, ord=2) ** 2)
        # any step serves a dictionary of zeros
        size = 1 / jnp.where(curvature == 0, 1.0, curvature)
        return dini.ProximalGradient(step_size=size, tol=0.0, max_steps=self.steps)

    def encode(
        self, X: Float[Array, "m p"], D: Atoms, differentiation: dini.Differentiation | None = None
    ) -> dini.Solution:
        """Return the codes of the rows of `X`, a batch of solutions.

        `differentiation` is implicit if it is not given. As FISTA takes all of its steps, no solution says that it
        has converged; `stats.error` tells how near it came.

        Raises
        ------
        ValueError
            Where `X` and `D` are not matrices with as many columns.
        """
        if jnp.ndim(X) != 2 or jnp.ndim(D) != 2 or X.shape[1] != D.shape[1]:
            raise ValueError(
                "X (patients by genes) and D (atoms by genes) must be matrices with equally many columns: given "
                f"shapes {jnp.shape(X)} and {jnp.shape(D)}."
            )
        mode = dini.Implicit() if differentiation is None else differentiation
        problem, solver, start = self.problem, self.solver(D), jnp.zeros(len(D), D.dtype)

        def code(x: Any) -> dini.Solution:
            return dini.solve(problem, solver, start, x, D, differentiation=mode, on_failure="ignore")

        return jax.vmap(code)(X)
