"""What a Python function reads besides its arguments.

A function object that comes again is not traced again. As for ``jax.jit``, it is taken to be pure; but other values in
its closure, its defaults and the globals that it names are seen, in helpers, containers and small arrays of NumPy too.
Where it reads what cannot be watched (an object of a class of the user's, say), it is not ``known``, and is traced at
each call.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import jax
import numpy as np

_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), object, np.dtype, np.ufunc, types.CodeType)
#: compared by value
_VALUES = (bytes, bool, int, str, jax.tree_util.PyTreeDef)
#: their functions and modules do not change. That a package is installed is not enough: a user's own may be, and what
#: it reads may change
_LIBRARIES = sys.stdlib_module_names | {"dini", "equinox", "jax", "jaxlib", "lineax", "numpy", "optax", "scipy"}
_MISSING = object()
#: arrays of up to this many numbers are watched for changes in place
_SMALL = 32
#: more functions, containers and modules than this are not watched
_MOST = 64


def _root(value: Any) -> str:
    return str(getattr(value, "__module__", None)).partition(".")[0]


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals and attributes in a function, and in the functions that it makes."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


class Captured:
    """What some functions were seen to read; the functions themselves are not kept."""

    def __init__(self, *functions: Any):
        #: variables of functions and modules, with the names by which they were read and what they were
        self.variables: list[tuple[dict[str, Any], str, Any]] = []
        self.cells: list[tuple[types.CellType, Any]] = []
        #: what is in the functions themselves, and in other objects
        self.own = list(map(_contents, functions))
        self.places: list[tuple[Any, tuple[Any, ...]]] = []
        self.known = True
        todo, seen = [(fun, ()) for fun in functions], set[Any]()
        while todo and self.known:
            place, names = todo.pop()
            if type(place) is types.FunctionType:
                names = () if _root(place) in _LIBRARIES else _names(place.__code__)
            if (id(place), names) in seen or _constant(place):
                continue
            seen.add((id(place), names))
            self.known = _watched(place) and len(seen) <= _MOST
            if self.known:
                todo += [(value, names) for value in self._read(place, names)]
                if not any(place is fun for fun in functions):
                    self.places.append((place, _contents(place)))

    def _read(self, place: Any, names: tuple[str, ...]) -> list[Any]:
        """Take down the variables that an object names, and return all that was found."""
        found = list(_contents(place))
        if isinstance(place, types.FunctionType | types.ModuleType):
            variables = place.__globals__ if isinstance(place, types.FunctionType) else vars(place)
            read = [(variables, name, variables[name]) for name in names if name in variables]
            self.variables += read
            found += [value for *_, value in read]
        if isinstance(place, types.FunctionType):
            cells = [(cell, _content(cell)) for cell in place.__closure__ or ()]
            self.cells += cells
            found += [value for _, value in cells]
        return found

    def unchanged(self, functions: list[Any]) -> bool:
        """Return whether the functions still read that."""
        for variables, name, value in self.variables:
            if variables.get(name) is not value:
                return False
        for cell, value in self.cells:
            if _content(cell) is not value:
                return False
        for fun, found in zip(functions, self.own):  # noqa: B905 (a warm solve comes here; they are as many)
            if not _alike(_contents(fun), found):
                return False
        for place, found in self.places:  # noqa: SIM110 (a warm solve comes here)
            if not _alike(_contents(place), found):
                return False
        return True

    @property
    def values(self) -> list[Any]:
        """All that was found."""
        read = [value for *_, value in (*self.variables, *self.cells)]
        return [*read, *(value for found in self.own for value in found), *(v for _, f in self.places for v in f)]

    def __eq__(self, other: object) -> bool:
        """Return whether two readings of one function found the same."""
        return isinstance(other, Captured) and _alike(self.values, other.values)


def _alike(ours: Any, theirs: Any) -> bool:
    if len(ours) != len(theirs):
        return False
    for a, b in zip(ours, theirs):  # noqa: B905 (as long as one another)
        if a is not b and not (type(a) is type(b) and type(a) in _VALUES and a == b):
            return False
    return True


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _MISSING


def _constant(value: Any) -> bool:
    """Return whether a value cannot change in place, or is taken not to."""
    if type(value) in _CONSTANTS or isinstance(value, jax.Array | np.generic):
        return True
    if isinstance(value, np.ndarray):
        return value.size > _SMALL or value.dtype == object
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in _LIBRARIES
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(value.__self__, types.ModuleType | None)
    if isinstance(value, type):
        return _root(value) in _LIBRARIES
    return _root(type(value)) == "jaxlib"  # what jax.jit has made follows JAX's rule


def _watched(value: Any) -> bool:
    kinds = (types.FunctionType, types.MethodType, types.ModuleType, functools.partial, np.ndarray)
    return isinstance(value, kinds) or _is_tree(value) or (_root(type(value)) == "jax" and hasattr(value, "__dict__"))


def _is_tree(value: Any) -> bool:
    return not jax.tree_util.all_leaves([value])


def _contents(place: Any) -> tuple[Any, ...]:
    """Return what is in an object besides variables, in a fixed order."""
    if type(place) is types.FunctionType:
        if place.__kwdefaults__ or place.__dict__:
            more = (*(place.__kwdefaults__ or {}).values(), *place.__dict__.values())
            return (place.__code__, *(place.__defaults__ or ()), *more)
        return (place.__code__, *place.__defaults__) if place.__defaults__ else (place.__code__,)
    if isinstance(place, types.MethodType):
        return place.__func__, place.__self__
    if isinstance(place, types.ModuleType):
        return ()
    if isinstance(place, functools.partial):
        return (place.func, *place.args, *place.keywords.values())
    if isinstance(place, np.ndarray):
        return (place.tobytes(),)
    if _is_tree(place):
        leaves, structure = jax.tree.flatten(place, is_leaf=lambda value: value is None)
        return (*leaves, structure)
    return tuple(vars(place).values())
