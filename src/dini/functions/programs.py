"""Whether two programs that JAX has traced are the same.

A function that is created at each call, such as a ``lambda`` in a loop, is traced again, and its program is the old
one with other arrays. Two programs are the same if they make the same steps with the same parameters on values of the
same types. Parameters are compared by equality, programs in them as programs, and rules of derivatives by what they are
made of; what cannot be compared is different, which costs a compilation and no wrong answer.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

#: what JAX keeps of a trace beside a rule, which has no influence on what the rule computes
_TRACE_STATE = {"DynamicJaxprTrace", "DebugInfo", "Store", "EqualStore"}
#: JAX remembers the traces of a rule in these
_MEMORY = {"memoized": ("cells", "sentinel")}


def digest(jaxpr: Any) -> int:
    """Return a number that is equal for programs that are the same."""
    return hash((tuple(_variables(jaxpr)[1]), tuple(_step(eqn) for eqn in jaxpr.eqns)))


def _step(eqn: Any) -> Any:
    return eqn.primitive.name, tuple(_bytes(atom.val) for atom in eqn.invars if hasattr(atom, "val"))


def _variables(jaxpr: Any) -> tuple[list[Any], list[Any]]:
    """Return the inputs of a program, what it closes over among them, and their types."""
    variables = [*jaxpr.constvars, *jaxpr.invars]
    return variables, [v.aval for v in variables]


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two programs (``jaxpr``) are the same, whatever the names of their variables."""
    if ours is theirs:
        return True
    (inputs, avals), (others, other_avals) = _variables(ours), _variables(theirs)
    if avals != other_avals or len(ours.eqns) != len(theirs.eqns) or len(ours.outvars) != len(theirs.outvars):
        return False
    names = dict(zip(inputs, others, strict=True))

    def atoms(some: Any, other: Any) -> bool:
        return len(some) == len(other) and all(
            names.get(a) is b
            if not hasattr(a, "val")
            else hasattr(b, "val") and a.aval == b.aval and _same(a.val, b.val)
            for a, b in zip(some, other, strict=True)
        )

    for a, b in zip(ours.eqns, theirs.eqns, strict=True):
        if not (
            a.primitive is b.primitive
            and a.ctx == b.ctx
            and a.effects == b.effects
            and atoms(a.invars, b.invars)
            and [v.aval for v in a.outvars] == [v.aval for v in b.outvars]
            and _same(a.params, b.params)
        ):
            return False
        names.update(zip(a.outvars, b.outvars, strict=True))
    return atoms(ours.outvars, theirs.outvars)


def _bytes(value: Any) -> Any:
    array = np.asarray(value)
    return str(array.dtype), array.shape, array.tobytes()


def _same(a: Any, b: Any) -> bool:
    """Return whether two parameters of a step are known to be equal."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[name]) for name, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if hasattr(a, "eqns") or hasattr(a, "jaxpr"):  # a program, with or without the values that it closes over
        consts = getattr(a, "consts", ()), getattr(b, "consts", ())
        return same(getattr(a, "jaxpr", a), getattr(b, "jaxpr", b)) and _same(*map(list, consts))
    if isinstance(a, float | complex):  # zeros have signs, and what is no number is not itself
        return repr(a) == repr(b)
    if isinstance(a, np.ndarray | np.generic) or type(a).__name__ == "TypedNdArray":
        return np.asarray(a).dtype != object and _bytes(a) == _bytes(b)
    if isinstance(a, types.FunctionType):
        return _same_wrapper(a, b)
    if isinstance(a, functools.partial):
        return _same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if type(a).__name__ == "WrappedFun":
        return _same((a.f, a.transforms, a.params), (b.f, b.transforms, b.params))
    if type(a).__name__ in _TRACE_STATE and type(a).__module__.startswith("jax."):
        return True
    try:
        return bool(a == b)
    except Exception:  # arrays, or a user's own equality
        return False


def _same_wrapper(a: types.FunctionType, b: types.FunctionType) -> bool:
    """Return whether two functions are JAX's own, made in the same place of the same things."""
    if a.__code__ is not b.__code__ or not str(a.__globals__.get("__name__")).startswith("jax."):
        return False
    try:
        return _same(*([_cells(f), f.__defaults__, f.__kwdefaults__] for f in (a, b)))
    except ValueError:  # not assigned yet
        return False


def _cells(fun: types.FunctionType) -> list[Any]:
    pairs = zip(fun.__code__.co_freevars, fun.__closure__ or (), strict=True)
    return [cell.cell_contents for name, cell in pairs if name not in _MEMORY.get(fun.__name__, ())]
