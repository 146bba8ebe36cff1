"""Parts of a problem that are something else: what to write in the place of what was given."""

from __future__ import annotations

from typing import Any

#: what is said of constraints that are functions
NONLINEAR = (
    "Functions go by name: dini.minimize(fun, x0, equality=h, inequality=g), with h(x, *args) = 0 and g(x, *args) <= 0 "
    '(SciPy\'s "ineq" is the other sign: g = -fun), and constraint=dini.sets.Box(lower, upper) for bounds beside them. '
    "As constraint= go sets of dini.sets (Box, Affine, Polyhedron, ...), and dini.sets.Custom(project) for a set that "
    "you can project onto."
)


def no_set(part: Any, *, penalty: bool) -> str:
    """Return what to write in place of a constraint that is no set; ``penalty`` says that it is a penalty."""
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
            "For a set for each part of the unknown write dini.sets.Product(tree), with dini.sets.Free() for a part "
            "that has none; for several sets at once dini.sets.Intersection([...])."
        )
    return "For one of your own write dini.sets.Custom(project)."


def no_penalty(part: Any, *, constraint: bool) -> str:
    """Return what to write in place of a penalty that is none; ``constraint`` says that it is a set."""
    if constraint:
        return "A set is given as constraint=."
    if callable(part) and not isinstance(part, type):
        return "A smooth term goes into fun; for one with a proximal operator write dini.penalties.Custom(value, prox)."
    if isinstance(part, list | tuple | dict):
        return (
            "For a penalty for each part of the unknown write dini.penalties.Product(tree), with "
            "dini.penalties.Indicator(dini.sets.Free()) for a part that has none."
        )
    if isinstance(part, int | float):
        return f"For a strength write dini.penalties.L1({part}) or dini.penalties.Ridge({part})."
    return "For one of your own write dini.penalties.Custom(value, prox)."


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
