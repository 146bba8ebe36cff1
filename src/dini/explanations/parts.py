"""Parts of a problem that are something else: what to write in place of what was given."""

from __future__ import annotations

from typing import Any

#: the message about constraints that are functions
NONLINEAR = (
    "Constraint functions are passed by name: dini.minimize(fun, x0, equality=h, inequality=g), with h(x, *args) = 0 "
    'and g(x, *args) <= 0 (SciPy\'s "ineq" has the opposite sign: g = -fun), with constraint=dini.sets.Box(lower, '
    "upper) for additional bounds. constraint= takes sets of dini.sets (Box, Affine, Polyhedron, ...), and "
    "dini.sets.Custom(project) for a set that you can project onto."
)


def no_set(part: Any, *, penalty: bool) -> str:
    """Return what to write in place of a constraint that is not a set; ``penalty`` says that it is a penalty."""
    if penalty:
        return "A penalty is given as penalty=."
    if callable(part) and not isinstance(part, type):
        return NONLINEAR
    if isinstance(part, dict) and "fun" in part:
        return NONLINEAR
    if isinstance(part, list | tuple) and len(part) == 2 and all(isinstance(end, int | float) for end in part):
        return f"For bounds write dini.sets.Box({part[0]}, {part[1]})."
    if isinstance(part, list | tuple | dict):
        return (
            "For one set for each part of the unknown write dini.sets.Product(tree), with dini.sets.Free() for a part "
            "without a constraint; for several sets at once dini.sets.Intersection([...])."
        )
    return "For your own set write dini.sets.Custom(project)."


def no_penalty(part: Any, *, constraint: bool) -> str:
    """Return what to write in place of a penalty that is none; ``constraint`` says that it is a set."""
    if constraint:
        return "A set is given as constraint=."
    if callable(part) and not isinstance(part, type):
        return "Add a smooth term to fun; for one with a proximal operator write dini.penalties.Custom(value, prox)."
    if isinstance(part, list | tuple | dict):
        return (
            "For one penalty for each part of the unknown write dini.penalties.Product(tree), with "
            "dini.penalties.Indicator(dini.sets.Free()) for a part without one."
        )
    if isinstance(part, int | float):
        return f"For a strength write dini.penalties.L1({part}) or dini.penalties.Ridge({part})."
    return "For your own penalty write dini.penalties.Custom(value, prox)."


def no_number(output: Any, leaves: list[Any], *, pair: bool) -> str:
    """Return what to do where an objective returns something else than a number, of shapes or arrays.

    ``pair`` says that it returns a number first, and no auxiliary output was announced.
    """
    if pair:
        return (
            "If the rest is auxiliary output, return a pair (value, aux) and pass has_aux=True. If it is the gradient, "
            "as jax.value_and_grad(f) returns it, pass f, or an object with a method value_and_gradient: see "
            "dini.Minimize."
        )
    if not leaves:
        return "Is a return missing?"
    if leaves[0] is output and output.shape == ():
        return "Return a floating-point number."
    if leaves[0] is output and output.size == 1:
        return "Take its only element, for example by jnp.squeeze."
    return "Sum or average over the samples."


#: which solvers take the problems of a kind: programs, and others without constraint or penalty
_PROGRAMS = {
    "QuadraticProgram": "InteriorPoint",
    "ConeProgram": "ConicInteriorPoint",
    "NonlinearProgram": "NonlinearInteriorPoint",
    "VariationalInequality": "SemismoothNewton or Extragradient",
    "Composite": "CondatVu, ADMM or DouglasRachford",
}
_PLAIN = {
    "Minimize": "LBFGS, Newton or GradientDescent",
    "LeastSquares": "LevenbergMarquardt, GaussNewton or LBFGS",
    "Root": "Newton, LevenbergMarquardt or Broyden",
    "FixedPoint": "FixedPointIteration, Anderson or Newton",
}


def other_solver(problem: Any) -> str:
    """Return which solvers take a problem that another one has refused."""
    kinds = [kind.__name__ for kind in type(problem).__mro__]
    program = next((_PROGRAMS[kind] for kind in kinds if kind in _PROGRAMS), None)
    if program is not None:
        return f"Use {program}."
    constraint, penalty = problem.constraint, problem.penalty
    if constraint is None and penalty is None:
        return f"Use {next((_PLAIN[kind] for kind in kinds if kind in _PLAIN), 'a solver that fits it')}."
    part: Any = penalty if constraint is None else constraint
    if not part.elementwise:
        return "Use ProximalGradient, ProjectedGradient, BlockCoordinateDescent or MirrorDescent."
    if constraint is None:
        return "Use ProximalNewton or ProximalGradient."
    return f"Use {'LevenbergMarquardt, ' if 'LeastSquares' in kinds else ''}ProjectedNewton or LBFGSB."


def no_monitor(monitor: Any, name: str, *, of_the_class: bool) -> str:
    """Return what was given in place of a monitor, a function of that name perhaps, and what to write."""
    if of_the_class:
        given, write = f"the class {monitor.__name__}", f"monitor=dini.{monitor.__name__}(...)"
    elif callable(monitor):
        given, write = f"the function {name}", "monitor=dini.Callback(function)"
    elif isinstance(monitor, list | tuple):
        given, write = f"a {type(monitor).__name__}", "monitor=dini.Monitors((dini.ProgressBar(), dini.Record(100)))"
    else:
        given, write = repr(monitor), "monitor=dini.ProgressBar()"
    return f"given {given}. Write {write}."
