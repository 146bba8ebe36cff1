"""What a Python function reads besides its arguments.

``jax.jit`` compiles a function once and never looks again at the variables that it closed over, at globals, or at the
attributes of the object that a method belongs to. A caller of ``dini.minimize`` has not asked for that: a loss that
reads ``strength`` and is minimized again after ``strength`` has changed must give another answer. So what a function
reads is part of the key under which a solve is compiled. Only an edit in place of a large array or container, or deep
inside of a data structure, and what is read by a name that is computed, go unseen.
"""

from __future__ import annotations

import dis
import functools
import itertools
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS: tuple[type, ...] = (list, tuple, dict, set, frozenset, deque)
#: containers of up to this many elements, and arrays of up to this many numbers, are looked into
_SMALL = 32
#: functions that functions call, elements of containers and attributes of objects, one inside another
_DEPTH = 4
_MISSING = object()
#: stands in a function's reading for what may change unseen
_UNSEEN = object()
#: their functions and types do not change, and give the same result for the same arguments
_PURE = {"builtins", "dini", "functools", "itertools", "jax", "jaxlib", "lineax", "math", "numpy", "operator", "optax"}
#: but for these
_IMPURE = {"eval", "exec", "fromfile", "genfromtxt", "globals", "input", "load", "loadtxt", "locals", "open", "random"}
#: methods that change a list or a dictionary in place
_CHANGES = {"append", "extend", "insert", "pop", "setdefault", "update"}


class _Names(NamedTuple):
    """What a program reads: globals, attributes of anything; and whether it changes containers in place.

    What it writes itself (a counter of its calls, say) is left out: it would be another function after each call.
    """

    globals: tuple[str, ...]
    attributes: tuple[str, ...]
    written: frozenset[str]
    changes: bool
    #: whether it does nothing but compute
    plain: bool
    #: whether an attribute has the name of what gives another result each time
    impure: bool


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> _Names:
    read: dict[str, set[str]] = {"GLOBAL": set(), "NAME": set(), "ATTR": set(), "METHOD": set()}
    written, changes, imports, codes = set[str](), False, False, [code]
    while codes:
        current = codes.pop()
        codes += [constant for constant in current.co_consts if isinstance(constant, types.CodeType)]
        for instruction in dis.get_instructions(current):
            verb, _, what = instruction.opname.partition("_")
            if verb == "LOAD" and what in read:
                read[what].add(instruction.argval)
            elif verb == "STORE" and what in ("GLOBAL", "ATTR", "DEREF", "NAME"):
                written.add(instruction.argval)
            changes |= instruction.opname == "STORE_SUBSCR"
            imports |= instruction.opname == "IMPORT_NAME"
    attributes = read["ATTR"] | read["METHOD"]
    changes |= bool(attributes & _CHANGES)
    variables = read["GLOBAL"] | read["NAME"]
    read_globals, read_attributes = (tuple(sorted(those - written)) for those in (variables, attributes))
    plain = not (written or changes or imports or _IMPURE.intersection(variables))
    return _Names(read_globals, read_attributes, frozenset(written), changes, plain, not _IMPURE.isdisjoint(attributes))


class _Last(NamedTuple):
    """What a function read the last time, where none of it can change in place."""

    fun: weakref.ref[types.FunctionType]
    code: types.CodeType
    defaults: Any
    cells: tuple[tuple[types.CellType, Any], ...]
    globals: tuple[tuple[str, Any], ...]
    read: tuple[Any, ...]


#: by the function's identity; an entry goes when its function does
_last: dict[int, _Last] = {}


def captured(fun: Any) -> tuple[Any, ...]:
    """Return the values that a function reads besides its arguments, flat and in a fixed order."""
    if type(fun) is not types.FunctionType:
        return tuple(_function(fun, 0))
    last = _last.get(id(fun))
    if last is not None and last.fun() is fun and unchanged(last, fun):
        return last.read
    read = tuple(_function(fun, 0))
    names = _names(fun.__code__)
    if fun.__kwdefaults__ is None and all(_fixed(value, names, fun) for value in read):
        _remember(fun, read)
    return read


def settled(fun: Any, read: tuple[Any, ...]) -> bool:
    """Return whether a function is known by its code and by what it reads: another one of the same code is the same.

    Not where something that it reads may change unseen, or where tracing it does something besides.
    """
    return type(fun) is types.FunctionType and _plain(fun) and not any(value is _UNSEEN for value in read)


def _wrapper(fun: types.FunctionType) -> bool:
    """Return whether a function is one that JAX has made of another (``jax.grad`` or ``jax.vmap`` of it, say)."""
    return fun.__closure__ is not None and str(fun.__globals__.get("__name__")).partition(".")[0] == "jax"


def _plain(fun: types.FunctionType) -> bool:
    if _wrapper(fun):
        return True
    return _names(fun.__code__).plain and _bare(fun)


def _bare(fun: types.FunctionType) -> bool:
    """Return whether a function has no attributes that somebody has given it."""
    return fun.__dict__.keys() <= {"__wrapped__"}


def _pure(value: Any, names: _Names) -> bool:
    """Return whether a module, a function or a type is one of a library that does not change."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    root = module.partition(".")[0]
    return root in _PURE and (root != "numpy" or not (names.impure or "random" in module))


def _fixed(value: Any, names: _Names, reader: types.FunctionType) -> bool:
    """Return whether a value cannot change in place: then it has been read by itself, and nothing that is in it."""
    if value is _UNSEEN:
        return True
    if isinstance(value, types.FunctionType):
        return not _beside(value, reader) and _bare(value)
    if isinstance(value, types.ModuleType):
        return next(_settings(value, names), _MISSING) is _MISSING
    if isinstance(value, type):
        return _pure(value, names) or next(_fields(value, names, reader, 0), _MISSING) is _MISSING
    if isinstance(value, types.BuiltinFunctionType):
        return _free(value)
    return type(value) in _SCALARS or isinstance(value, np.generic | jax.Array)


def _free(value: Any) -> bool:
    """Return whether a built-in function is no method of an object that may change."""
    return isinstance(getattr(value, "__self__", None), types.ModuleType | None)


def _remember(fun: types.FunctionType, read: tuple[Any, ...]) -> None:
    names = _names(fun.__code__)
    pairs = zip(fun.__code__.co_freevars, fun.__closure__ or (), strict=True)
    try:
        cells = tuple((cell, cell.cell_contents) for name, cell in pairs if name not in names.written)
    except ValueError:  # not assigned yet
        return
    variables = tuple((name, fun.__globals__.get(name, _MISSING)) for name in names.globals)
    key = id(fun)
    gone = weakref.ref(fun, lambda _: _last.pop(key, None))
    _last[key] = _Last(gone, fun.__code__, fun.__defaults__, cells, variables, read)


def remembered(fun: Any) -> _Last | None:
    """Return what a function read the last time, if that could be remembered."""
    return _last.get(id(fun))


def unchanged(last: _Last, fun: types.FunctionType) -> bool:
    """Return whether a function still reads what it read the last time."""
    if fun.__code__ is not last.code or fun.__defaults__ is not last.defaults or fun.__kwdefaults__ is not None:
        return False
    variables = fun.__globals__
    for name, value in last.globals:
        if variables.get(name, _MISSING) is not value:
            return False
    try:
        for cell, value in last.cells:
            if cell.cell_contents is not value:
                return False
    except ValueError:  # deleted
        return False
    return True


def same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    """Return whether two lots of captured values are equal: numbers and strings by value, all else by identity."""
    return ours is theirs or (len(ours) == len(theirs) and all(map(_same, ours, theirs)))


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, (*_SCALARS, np.generic)) and bool(a == b))


def _function(fun: Any, depth: float) -> Iterator[Any]:
    if isinstance(fun, types.MethodType):
        yield from _methods(fun.__self__, [fun.__func__], fun.__func__, depth)
    elif isinstance(fun, types.FunctionType):
        names = _names(fun.__code__)
        for name, cell in zip(fun.__code__.co_freevars, fun.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                yield _UNSEEN
                continue
            if name not in names.written:
                yield from _value(value, names, fun, depth)
        for name in () if _wrapper(fun) else names.globals:
            if name in fun.__globals__:
                yield from _value(fun.__globals__[name], names, fun, depth)
        for value in (*(fun.__defaults__ or ()), *(fun.__kwdefaults__ or {}).values()):
            yield from _value(value, names, fun, depth)
    elif callable(fun) and isinstance(call := type(fun).__call__, types.FunctionType):
        yield from _methods(fun, [call], call, depth)


def _method(owner: Any, name: str) -> types.FunctionType | None:
    """Return the method or the property of that name, if it is one of Python's."""
    found = getattr(type(owner), name, None)
    found = found.fget if isinstance(found, property) else found
    return found if isinstance(found, types.FunctionType) else None


def _methods(owner: Any, methods: list[types.FunctionType], reader: types.FunctionType, depth: float) -> Iterator[Any]:
    """Yield what methods read, of their object too, also through other methods of it that are beside the reader."""
    todo, seen, written, changes = list(methods), set[str](), frozenset[str](), False
    while todo:
        current = todo.pop()
        if current.__globals__ is reader.__globals__:
            yield from _function(current, depth)
        names = _names(current.__code__)
        written, changes = written | names.written, changes | names.changes
        for name in names.attributes:
            if name not in seen:
                seen.add(name)
                other = _method(owner, name)
                todo += [] if other is None else [other]
    names = _Names((), tuple(sorted(seen - written)), written, changes, plain=False, impure=True)
    yield from _fields(owner, names, reader, depth)


def _fields(owner: Any, names: _Names, reader: types.FunctionType, depth: float) -> Iterator[Any]:
    """Yield what is read by name of an object or a class; methods and properties of objects are not among it."""
    own, classes = getattr(owner, "__dict__", {}), type(owner).__mro__[:-1]
    if isinstance(owner, type):
        own, classes = {}, owner.__mro__[:-1]
    for name in names.attributes:
        if name in own:
            yield from _value(own[name], names, reader, depth + 1)
            continue
        for one in classes:
            if name in vars(one):
                value = vars(one)[name]
                if isinstance(value, classmethod):
                    kind = owner if isinstance(owner, type) else type(owner)
                    yield from _methods(kind, [value.__func__], reader, depth + 1)
                    break
                value = value.__func__ if isinstance(value, staticmethod) else value
                if isinstance(value, types.MemberDescriptorType) and not isinstance(owner, type):  # of `__slots__`
                    value = getattr(owner, name, _MISSING)
                if isinstance(owner, type) or not hasattr(value, "__get__"):
                    yield from _value(value, names, reader, depth + 1)
                break
        else:
            if isinstance(getattr(type(owner), "__getattr__", None), types.FunctionType):
                try:
                    value = getattr(owner, name)
                except Exception:  # of the user's own: an object need not have what others have by that name
                    continue
                yield from _value(value, names, reader, depth + 1)


def _settings(module: types.ModuleType, names: _Names) -> Iterator[Any]:
    """Yield what a function may read of a module that is neither code nor a module."""
    own = vars(module)
    for name in names.attributes:
        if name in own and not callable(own[name]) and not isinstance(own[name], types.ModuleType):
            yield own[name]


def _beside(value: Any, reader: types.FunctionType) -> bool:
    """Return whether a value is another function of the reader's module: libraries do not change, those may.

    So may a function that JAX has made of another, and what it is made of.
    """
    if type(value) is not types.FunctionType or value is reader:
        return False
    return value.__globals__ is reader.__globals__ or _wrapper(value) or _wrapper(reader)


def _value(value: Any, names: _Names, reader: types.FunctionType, depth: float) -> Iterator[Any]:
    """Yield a value and, where it can change in place, what is in it, or that this is not seen."""
    kind: Any = type(value)
    beside = _beside(value, reader)
    # a function that is read in full is known by its code: one that is made anew at each call is the same
    yield value.__code__ if beside and depth < _DEPTH and _plain(value) else value
    if kind is types.FunctionType and not _bare(value):
        yield from _fields(value, names, reader, depth)
    if kind in _SCALARS or kind is object or isinstance(value, jax.Array | np.generic) or value is reader:
        return
    if depth >= _DEPTH:
        yield _UNSEEN
    elif isinstance(value, types.ModuleType):
        for setting in _settings(value, names):
            yield from _value(setting, names, reader, depth + 1)
        if not _pure(value, names):
            yield _UNSEEN
    elif isinstance(value, np.ndarray):
        whole = value.size <= _SMALL and value.dtype != object
        yield value.tobytes() if whole else _UNSEEN
    elif isinstance(value, _CONTAINERS) and len(value) <= _SMALL and not names.changes:
        yield len(value)
        for element in itertools.chain(value, value.values()) if isinstance(value, dict) else value:
            yield from _value(element, names, reader, depth + 1)
        if kind not in _CONTAINERS:
            yield from _fields(value, names, reader, depth)
    elif beside:
        # one transformation of JAX's is several functions, one inside another
        yield from _function(value, depth + (0.2 if _wrapper(value) else 1))
        if not _plain(value):
            yield _UNSEEN
    elif isinstance(value, types.MethodType):
        yield from _function(value, depth + 1)
        yield _UNSEEN
    elif isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
        if not _pure(value, names) or not _free(value):
            yield _UNSEEN
            if isinstance(value, type):
                yield from _fields(value, names, reader, depth)
            elif isinstance(value, types.BuiltinFunctionType) and not _free(value):
                yield from _value(value.__self__, names, reader, depth + 1)
    else:
        root = type(value).__module__.partition(".")[0]
        if not (callable(value) and (root in ("jax", "jaxlib") or kind is np.ufunc) and _pure(value, names)):
            yield _UNSEEN
            yield from _fields(value, names, reader, depth)
            for part in _parts(value, root):
                yield from _value(part, names, reader, depth + 1)
            called = [_method(value, name) for name in ("__call__", *names.attributes)]
            if root != "jax" and any(called):
                yield from _methods(value, [method for method in called if method], reader, depth + 1)


def _parts(value: Any, root: str) -> Iterator[Any]:
    """Yield what ``functools.partial``, or JAX for a function with a rule of its own, was given."""
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif root == "jax":
        for name, part in getattr(value, "__dict__", {}).items():
            if name != "__wrapped__" and type(part) is types.FunctionType:
                yield part
