"""Mirror descent by JAXopt's name, with a user's own mirror step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dini import trees
from dini.solvers._gradient_descent import schedule_value
from dini.status import Status

from ._base import AutoOrBoolean, IterativeSolver, OptStep


class MirrorDescentState(NamedTuple):
    """State of mirror descent."""

    iter_num: Any
    error: Any
    aux: Any = None
    num_fun_eval: Any = 0
    num_grad_eval: Any = 0
    num_proj_eval: Any = 0
    status: Any = None


@dataclass(eq=False)
class MirrorDescent(IterativeSolver):
    r"""Mirror descent, :math:`x \leftarrow \Pi(x, \nabla f(x), \eta)`, with a mirror step :math:`\Pi` of the user's.

    :class:`dini.MirrorDescent` knows the geometry and the set, finds the step size, and tests the problem's own
    condition; here a function is all that is known, and the test is the length of a step.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)``.
    projection_grad
        ``projection_grad(x, gradient, stepsize, hyperparams_proj)``, the next point.
    stepsize
        A number, or a function of the iteration.
    maxiter
        Limit on the number of iterations.
    tol
        Absolute tolerance on the length of a step over its step size.
    verbose
        Whether to print a line for each iteration.
    implicit_diff
        Whether to differentiate the fixed point of a step of unit size (``True``) or the iterations.
    implicit_diff_solve
        A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.
    has_aux
        Whether ``fun`` returns a pair ``(value, aux)``.
    jit
        Whether to compile; if not, the loop is Python's.
    unroll
        Taken for JAXopt's sake.

    Examples
    --------
    >>> import dini_jaxopt as jaxopt, jax, jax.numpy as jnp
    >>> step = jaxopt.MirrorDescent.make_projection_grad(lambda z, _: jax.nn.softmax(z), jnp.log)
    >>> solver = jaxopt.MirrorDescent(lambda x, c: x @ c + jnp.sum(x**2), step, stepsize=0.5, tol=1e-6)
    >>> print(solver.run(jnp.ones(2) / 2, None, jnp.array([0.0, 1.0])).params.round(3))
    [0.75 0.25]
    """

    fun: Callable[..., Any]
    projection_grad: Any
    stepsize: Any
    maxiter: int = 500
    tol: Any = 1e-2
    verbose: Any = False
    implicit_diff: bool = True
    implicit_diff_solve: Any = None
    has_aux: bool = False
    jit: bool = True
    unroll: AutoOrBoolean = "auto"

    @staticmethod
    def make_projection_grad(projection: Callable[..., Any], mapping_fun: Callable[..., Any]) -> Callable[..., Any]:
        r"""Return the mirror step of a projection and a mirror map :math:`\nabla\varphi`."""

        def projection_grad(x: Any, gradient: Any, stepsize: Any, hyperparams_proj: Any) -> Any:
            return projection(trees.axpy(-jnp.asarray(stepsize), gradient, mapping_fun(x)), hyperparams_proj)

        return projection_grad

    def _gradient(self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        with_aux = self.fun if self.has_aux else lambda *given, **named: (self.fun(*given, **named), None)
        return jax.grad(with_aux, has_aux=True)(x, *args, **kwargs)

    def init_state(self, init_params: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the state before the first iteration."""
        del hyperparams_proj
        aux = self.fun(init_params, *args, **kwargs)[1] if self.has_aux else None
        none, error = jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, trees.real_dtype(init_params))
        return MirrorDescentState(none, error, aux, none, none, none, none + Status.RUNNING)

    def update(self, params: Any, state: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Return point and state after one iteration."""
        eta = jnp.asarray(schedule_value(self.stepsize, state.iter_num), state.error.dtype)
        gradient, aux = self._gradient(params, args, kwargs)
        new = self.projection_grad(params, gradient, eta, hyperparams_proj)
        error = trees.norm(trees.sub(new, params)).astype(state.error.dtype) / eta
        once_more = {name: getattr(state, name) + 1 for name in ("iter_num", *state._fields[3:6])}
        state = state._replace(error=error, aux=aux, **once_more)
        if self.verbose:
            self.log_info(state, error_name="Distance btw Iterates")
        return OptStep(new, state)

    def run(self, init_params: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate until a step is at most ``tol`` long, or ``maxiter`` times; see ``IterativeSolver``."""
        return super().run(init_params, hyperparams_proj, *args, **kwargs)

    def optimality_fun(self, sol: Any, hyperparams_proj: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the move of a step of unit size."""
        gradient = self._gradient(sol, args, kwargs)[0]
        return trees.sub(self.projection_grad(sol, gradient, 1.0, hyperparams_proj), sol)
