"""The families of least squares: full steps and damped ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import dini

from ._families import DiniSolver, require_choice
from ._iterated import Iterated, residuals_at
from ._objective import Given, bound


class LeastSquares(DiniSolver):
    """Residuals."""

    lead = 2
    #: whether the test is the length of a step, which is full, not the gradient
    by_step: ClassVar[bool] = True
    residual_fun: Callable[..., Any]

    def _stated(self, *args: Any, **kwargs: Any) -> tuple[Any, Given]:
        return dini.LeastSquares(bound(self.residual_fun, "residual_fun"), has_aux=self.has_aux), (args, kwargs)

    def _method(self, **settings: Any) -> Any:
        return super()._method(patience=None, **settings)

    def _iterated(self) -> Iterated:
        return dataclasses.replace(super()._iterated(), by_step=self.by_step)

    def _measured(self, state: Any, problem: Any, x: Any, given: Given) -> Any:
        residual, gradient = residuals_at(self._solver(), problem, x, given)
        return state._replace(residual=residual, gradient=gradient, value=problem.cost(residual))

    def optimality_fun(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient of half the squared norm of the residuals."""
        problem, given = self._stated(*args, **kwargs)
        return problem.gradient(params, given)


@dini.solver
class Levenberg(dini.LevenbergMarquardt):
    """Steps as JAXopt's are, to the digits that single precision has: by QR for few unknowns."""

    few: int = dataclasses.field(default=0, metadata={"static": True})

    def algebra(self, size: int) -> Any:
        """Return the class that does the linear algebra for so many unknowns."""
        chosen = dataclasses.replace(self, linear_solver="qr") if size <= self.few else self
        return dini.LevenbergMarquardt.algebra(chosen, size)


#: unknowns of up to this many numbers are solved for by QR, which costs little there
_FEW = 32
#: JAXopt's names of factorizations, and dini's
_ALGEBRA = {"cholesky": "cholesky", "lu": "cholesky", "qr": "qr", "inv": "cholesky"}


class Damped(LeastSquares):
    """Damped steps, which may be short anywhere."""

    by_step = False
    solver: Any
    stop_criterion: str
    gtol: Any
    materialize_jac: bool

    def __post_init__(self) -> None:
        require_choice(self, "stop_criterion", "grad-l2-norm", "madsen-nielsen")
        if not callable(self.solver) and self.solver not in _ALGEBRA:
            raise ValueError(
                f"LevenbergMarquardt's solver must be one of {', '.join(map(repr, _ALGEBRA))} or a function: given "
                f"{self.solver!r}."
            )
        super().__post_init__()

    def _method(self, **settings: Any) -> Any:
        free = callable(self.solver)
        algebra = ("cholesky" if self.materialize_jac else "auto") if free else _ALGEBRA[self.solver]
        how = {"strategy": "levenberg", "hessian": "gauss-newton", "linear_solver": algebra, "few": _FEW if free else 0}
        atol = self.tol if self.stop_criterion == "grad-l2-norm" else self.gtol
        given = {ours: getattr(self, theirs) for theirs, ours in self.renamed.items()}
        return Levenberg(**how, atol=atol, **given, **settings)
