"""Programs that are compiled once for functions that are created again at each call.

``jax.jit`` knows a function by its identity. A ``lambda`` in a loop is another object each time, with other arrays in
its closure, and a compilation each time. Here what is to be compiled is first *made* explicit: the functions in it are
traced, with all that they close over as arguments, and the program is looked up by its steps. A function object that
comes again is not traced again unless something else is found in its closure (:mod:`dini.functions.captured`).
"""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import tree_flatten

from ._functions import UserFunction
from ._hoist import hoist
from .captured import Captured


class _Stale(Exception):
    """What was remembered of a function belongs to other shapes or another configuration of JAX."""


class _Known(NamedTuple):
    """What is known of functions that came again: their program at some types of arguments, and its values."""

    #: they forget this when a function dies, before another object can have its identity
    references: list[weakref.ref[Any]]
    captured: Captured
    types: list[Any]
    program: Program
    consts: list[Any]


class _Memory(OrderedDict[Any, Any]):
    """A dictionary of the last entries."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            self.popitem(last=False)


#: whether a node is a watched function; a call of JAX's asks for each node, and Python's own functions are quick
_IS_USER_FUNCTION = UserFunction.__instancecheck__
#: one program for all that are equal to it
_programs = _Memory(1024)
#: what came more than once, by the structure of the arguments and the identities of the functions in them
_known = _Memory(64)
#: hashes of what came: an object that is created at each call does not come again and is not kept
_seen = _Memory(1024)
_contexts = itertools.count()


@jax.jit
def _numbered() -> jax.Array:
    """Return as many numbers as there were configurations of JAX before: a new one is traced again."""
    return jnp.zeros(next(_contexts))


def _context() -> int:
    """Return a number that stands for what ``jax.jit`` distinguishes besides the types of arguments."""
    return _numbered.eval_shape().size


class Program:
    """The static part of a recognised call: how what it is about is made, without any values."""

    def __init__(self, hoisted: hoist, types: list[Any], context: int):
        self._make, self._types, self._context = hoisted.without_values(), types, context

    def made(self, consts: list[Any], leaves: list[Any]) -> Any:
        """Return what the call is about, within the trace of the compiled function."""
        if self._types != _types(leaves) or self._context != _context():
            raise _Stale
        return self._make(consts, leaves)


def call(run: Callable[..., Any], make: Callable[..., Any], operands: tuple[Any, ...], *rest: Any) -> Any:
    """Return ``run(program, consts, leaves, *rest)``, in which ``program.made(consts, leaves)`` is ``make(*operands)``.

    ``run`` was compiled by ``jax.jit`` with ``program`` static. The functions in what ``make`` returns are closed (see
    :func:`dini.functions.close`).
    """
    leaves, structure = tree_flatten(operands, _IS_USER_FUNCTION)
    functions: list[Any] = []
    key: Any = (make, structure)
    kinds = [*map(type, leaves)]
    if kinds and kinds[0] is UserFunction and not (leaves[0].args or leaves[0].keywords or UserFunction in kinds[1:]):
        functions = [leaves[0].func]  # nearly always
        key = (make, structure, id(functions[0]) if type(functions[0]) is FunctionType else _place(functions[0]))
        leaves = leaves[1:]
    elif UserFunction in kinds:
        parts, leaves = leaves, []
        for part in parts:
            if type(part) is UserFunction:
                fun = part.func
                functions.append(fun)
                key += (id(fun) if type(fun) is FunctionType else _place(fun),)
                if part.args or part.keywords:
                    bound, bound_structure = tree_flatten((part.args, part.keywords))
                    leaves += bound
                    key += (bound_structure,)
            else:
                leaves.append(part)
    found = _known.get(key)
    if found is not None:
        known = found[0] if len(found) == 1 else _of_types(found, leaves)
        if known is not None and known.captured.unchanged(functions):
            try:
                return run(known.program, known.consts, leaves, *rest)
            except _Stale:  # a wrong type, or configuration, shows when the compiled program is asked for
                pass
    return _call_traced(run, make, operands, functions, key, leaves, rest)


def _place(fun: Any) -> Any:
    """Return what distinguishes a function from others that live; each look-up of a method creates another one."""
    return (id(fun.__self__), id(fun.__func__)) if type(fun) is MethodType else id(fun)


def _of_types(found: list[_Known], leaves: list[Any]) -> _Known | None:
    types = _types(leaves)
    return next((one for one in found if one.types == types), None)


def _types(leaves: list[Any]) -> list[Any]:
    return list(map(jax.typeof, leaves))


def _call_traced(
    run: Callable[..., Any],
    make: Callable[..., Any],
    operands: tuple[Any, ...],
    functions: list[Any],
    key: Any,
    leaves: list[Any],
    rest: tuple[Any, ...],
) -> Any:
    """Call what is made of functions that are new, or may read something else than before."""
    structure = jax.tree.structure(operands)
    hoisted = hoist(lambda leaves: make(*jax.tree.unflatten(structure, leaves)), leaves)
    context = _context()
    program = _programs.get((hoisted, context))
    if program is None:
        program = Program(hoisted, _types(leaves), context)
        _programs[hoisted.without_values(), context] = program
    _remember(functions, key, leaves, program, hoisted.consts)
    return run(program, hoisted.consts, leaves, *rest)


def _remember(functions: list[Any], key: Any, leaves: list[Any], program: Program, consts: list[Any]) -> None:
    """Keep what is known of functions from the second time on, where it can be seen whether they change."""
    if hash(key) not in _seen:
        _seen[hash(key)] = None
        return
    captured = Captured(*functions)
    if not captured.known or any(isinstance(value, Tracer) for value in (*consts, *captured.values)):
        return
    # a global is none any more where Python ends
    forget = lambda _, known=_known: known.pop(key, None)
    try:
        references = [_reference(fun, forget) for fun in functions]
    except TypeError:  # a callable object with slots, say
        return
    types = _types(leaves)
    with jax.core.eval_context():  # a constant of a trace must not outlive it
        consts = [value if isinstance(value, jax.Array) else jnp.array(value) for value in consts]
    others = [one for one in _known.get(key, []) if one.types != types and one.captured.unchanged(functions)]
    _known[key] = [*others[-7:], _Known(references, captured, types, program, consts)]


def _reference(fun: Any, forget: Callable[[Any], Any]) -> Any:
    return weakref.WeakMethod(fun, forget) if type(fun) is MethodType else weakref.ref(fun, forget)
