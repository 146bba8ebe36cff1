"""Implicit steps, each of which is a root that dini finds and differentiates."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

import dini

#: So accurate that the root's error is nothing beside the step's.
NEWTON = dini.Newton(rtol=1e-10, max_steps=50)


class ThetaMethod(diffrax.AbstractSolver[Any]):
    r"""One implicit step of :math:`\dot z = f(t, z)`,

    .. math:: z_1 = z_0 + h \, \big( (1 - \theta) f(t_0, z_0) + \theta f(t_1, z_1) \big) ,

    Euler's backward step at :math:`\theta = 1`, the trapezoidal rule at :math:`\tfrac12`. The root is found by dini,
    and the derivative of a step is the implicit one: exact in every mode and order, whatever the steps of the root's
    solver were, and no memory is kept of them.

    It has no error estimate; `diffrax.HalfSolver(ThetaMethod())` makes one for adaptive steps, and is recorded and
    penalized as any solver. A root that is not found ends the solve with `diffrax.RESULTS.nonlinear_divergence`.

    Parameters
    ----------
    theta
        In (0, 1].
    root_solver
        Of dini: Newton's method if none is given.

    Raises
    ------
    ValueError
        If `theta` is not in (0, 1].

    References
    ----------
    Hairer, Wanner, "Solving ordinary differential equations II", IV.3.

    Examples
    --------
    A rate of a million, ten steps, and the derivative of the end in the level that it is drawn to:

    >>> term = diffrax.ODETerm(lambda t, z, level: 1e6 * (level - z))
    >>> @jax.jit
    ... @jax.value_and_grad
    ... def end(level):
    ...     solution = diffrax.diffeqsolve(term, ThetaMethod(), 0.0, 1.0, 0.1, jnp.zeros(()), level, max_steps=16)
    ...     return solution.ys[0]
    >>> value, slope = end(2.0)
    >>> print(f"{value:.3f} {slope:.3f}")
    2.000 1.000
    """

    theta: float = eqx.field(static=True, default=1.0)
    root_solver: Any = NEWTON

    term_structure: ClassVar[Any] = diffrax.ODETerm
    interpolation_cls: ClassVar[Any] = diffrax.LocalLinearInterpolation

    def __check_init__(self) -> None:
        if not 0 < self.theta <= 1:
            raise ValueError(f"theta must be in (0, 1]: given {self.theta}.")

    def order(self, terms: Any) -> int:
        """Two for the trapezoidal rule, one otherwise."""
        del terms
        return 2 if self.theta == 0.5 else 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """Nothing is carried."""

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        """One step."""
        del solver_state, made_jump
        control = terms.contr(t0, t1)
        first = terms.vf_prod(t0, y0, args, control)
        known = jax.tree.map(lambda y, k: y + (1 - self.theta) * k, y0, first)

        def residual(y1: Any, known: Any) -> Any:
            k = terms.vf_prod(t1, y1, args, control)
            return jax.tree.map(lambda y, b, k: y - b - self.theta * k, y1, known, k)

        found = dini.root(residual, y0, known, solver=self.root_solver, on_failure="ignore")
        results = diffrax.RESULTS
        result = results.where(jnp.asarray(found.success), results.successful, results.nonlinear_divergence)
        return found.x, None, {"y0": y0, "y1": found.x}, None, result

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field."""
        return terms.vf(t0, y0, args)
