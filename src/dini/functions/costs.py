"""What the trace of a program shows of its cost, and of what its values depend: no number is computed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..deferred import is_literal

_CALLS = {
    "jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
    "remat", "remat2", "checkpoint",
}  # fmt: skip


def called(eqn: Any) -> tuple[Any, Any] | None:
    """Return the jaxpr that an equation calls, and its constants."""
    if eqn.primitive.name not in _CALLS:
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(key)
        if inner is not None:
            jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
            if len(jaxpr.invars) == len(eqn.invars):
                return jaxpr, consts
    return None


def scanned(eqn: Any) -> tuple[int, int]:
    """Return how many constants a scan has, and how many values it carries; sequences come last among its inputs."""
    body = eqn.params["jaxpr"].jaxpr
    # a sequence has one axis more outside than inside
    stepped = sum(len(v.aval.shape) > len(w.aval.shape) for v, w in zip(eqn.invars, body.invars, strict=True))
    carry = sum(len(v.aval.shape) == len(w.aval.shape) for v, w in zip(eqn.outvars, body.outvars, strict=True))
    return len(eqn.invars) - stepped - carry, carry


def reached(jaxpr: Any, inputs: list[bool]) -> list[bool]:
    """Return which outputs of a program some of its inputs enter.

    An operation that calls back or loops is taken to pass on all that it reads, so false is certain and true is not.
    """
    return _walk(jaxpr, inputs)[0]


class Cost(NamedTuple):
    """What a program does with some of its inputs.

    Attributes
    ----------
    products
        Operations in products of matrices and in convolutions.
    largest
        Elements of the largest array.
    loops
        Whether there is a loop.
    unbounded
        Whether there is one of unknown length.
    """

    products: float
    largest: int
    loops: bool = False
    unbounded: bool = False


def cost(jaxpr: Any, inputs: list[bool]) -> Cost:
    """Return what is done with some of a program's inputs; a loop of unknown length counts once."""
    return _walk(jaxpr, inputs)[1]


def _walk(jaxpr: Any, inputs: list[bool]) -> tuple[list[bool], Cost]:
    entered = {v for v, enters in zip(jaxpr.invars, inputs, strict=True) if enters}
    enter = lambda atoms: [not is_literal(v) and v in entered for v in atoms]
    products, largest, loops, unbounded = 0.0, 0, False, False
    for eqn in jaxpr.eqns:
        enters = enter(eqn.invars)
        if not any(enters):
            continue
        outputs = [True] * len(eqn.outvars)
        inner = called(eqn)
        if inner is not None:
            outputs, own = _walk(inner[0], enters)
        else:
            own = _own(eqn, enters)
        if eqn.effects:  # what is written somewhere may come back anywhere
            entered.update(v for v in jaxpr.outvars if not is_literal(v))
        products += own.products
        loops |= own.loops or eqn.primitive.name in ("scan", "while")
        unbounded |= own.unbounded or eqn.primitive.name == "while"
        largest = max(largest, own.largest, *(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars))
        entered.update(v for v, out in zip(eqn.outvars, outputs, strict=True) if out)
    return enter(jaxpr.outvars), Cost(products, largest, loops, unbounded)


def _own(eqn: Any, enters: list[bool]) -> Cost:
    """Return the cost of an equation some of whose inputs count, but for its outputs."""
    name, sizes = eqn.primitive.name, [math.prod(getattr(v.aval, "shape", ())) for v in eqn.invars]
    result = math.prod(getattr(eqn.outvars[0].aval, "shape", ())) if eqn.outvars else 0
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return Cost(2.0 * result * math.prod(shape[axis] for axis in contracted), 0)
    if name == "conv_general_dilated":
        out = eqn.params["dimension_numbers"].rhs_spec[0]
        return Cost(2.0 * result * sizes[1] / max(eqn.invars[1].aval.shape[out], 1), 0)
    fixed = enters[: scanned(eqn)[0]] if name == "scan" else []
    costs = [
        _walk(part, [*fixed, *[True] * (len(part.invars) - len(fixed))])[1]
        for part in map(_program, _parts(eqn.params))
        if part is not None
    ]
    if not costs:
        return Cost(0, 0)
    total = max(part.products for part in costs) if name == "cond" else sum(part.products for part in costs)
    loops, unbounded = any(part.loops for part in costs), any(part.unbounded for part in costs)
    return Cost(total * eqn.params.get("length", 1), max(part.largest for part in costs), loops, unbounded)


def _parts(params: dict[str, Any]) -> list[Any]:
    return [part for value in params.values() for part in (value if isinstance(value, tuple | list) else (value,))]


def _program(value: Any) -> Any:
    """Return a jaxpr without its constants, or ``None``."""
    inner = getattr(value, "jaxpr", value)
    return inner if hasattr(inner, "eqns") else None
