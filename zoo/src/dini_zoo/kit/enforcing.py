"""Annotations of shapes and kinds, enforced where a public function is called or traced.

A function's `Float[Array, "n d"]` then is a contract: another number of axes, another length than a name has in the
other arguments, or fractions where indices are meant raise an error that names the argument, what was given and what is
meant. Integers and Booleans for `Float` become floats, once, on entry. Nothing is left of it in a compiled program.

What is taken as an array is what JAX takes: NumPy's arrays, Python's numbers and lists too. That is why neither
beartype nor typeguard is used: they refuse these for `Float[Array, ...]`, promote nothing, and see no dimension that is
shared by two arguments without jaxtyping's decorator around them, whose import takes longer than all of this.

`hook.py` says for which modules, and how it is switched off.
"""

from __future__ import annotations

import builtins
import collections
import enum
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractArray

from .checking import floating, gather, gathered, marked

type Shape = tuple[int, ...]


class _WrongError(Exception):
    """What does not fit, before it is known to which alternative."""

    def __init__(self, words: str, kind: type[Exception] = ValueError):
        super().__init__(words)
        self.words, self.kind = words, kind


@dataclass
class _Sizes:
    """What the names of axes stand for, and the argument that says so."""

    one: dict[str, tuple[int, str]] = field(default_factory=dict)
    many: dict[str, tuple[Shape, str]] = field(default_factory=dict)

    def copy(self) -> _Sizes:
        return _Sizes(dict(self.one), dict(self.many))

    def said(self, names: Sequence[str]) -> str:
        """Where the sizes are from."""
        known = [f"{name} = {size} by {source}" for name, (size, source) in self.one.items() if name in names]
        known += [f"*{name} = {shape} by {source}" for name, (shape, source) in self.many.items() if name in names]
        return f", where {' and '.join(known)}" if known else ""


class _Check:
    """Looks at one argument."""

    def __call__(self, name: str, value: Any, sizes: _Sizes) -> Any:
        """The value, promoted where it must be; raises `_WrongError`."""
        raise NotImplementedError


KINDS: dict[str, tuple[Any, ...]] = {
    "Float": (np.floating,),
    "Int": (np.integer,),
    "UInt": (np.unsignedinteger,),
    "Bool": (np.bool_,),
    "Complex": (np.complexfloating,),
    "Inexact": (np.inexact,),
    "Num": (np.number, np.bool_),
    "Real": (np.floating, np.integer),
}
WORDS = {
    "Float": "real numbers",
    "Int": "whole numbers (indices or counts)",
    "Bool": "Booleans",
    "Complex": "complex numbers",
}
PROMOTED = ("Float", "Inexact", "Complex")


@dataclass
class _Array(_Check):
    """A jaxtyping annotation."""

    kind: str
    axes: tuple[str, ...]

    def __call__(self, name: str, value: Any, sizes: _Sizes) -> Any:
        numbers = isinstance(value, bool | int | float | complex)
        listed = isinstance(value, list | tuple) and type(value) in (list, tuple)
        if isinstance(value, str | bytes):
            raise _WrongError(f"{name} must be an array of shape {self.meant}: given {value!r}.", TypeError)
        if listed:
            if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
                return value
            try:
                value_like = np.asarray(value)
            except ValueError:
                raise _WrongError(f"{name} must be an array of shape {self.meant}: given a ragged list.") from None
            if value_like.dtype == object:
                return value
        elif numbers or (hasattr(value, "shape") and hasattr(value, "dtype")):
            value_like = value
        else:
            # an axis of vmap, a placeholder of a tree, something of the caller's
            return value
        shape = () if numbers else tuple(value_like.shape)
        self.fits(name, shape, sizes)
        return value if self.kind not in KINDS else self.of_kind(name, value, value_like, numbers)

    @property
    def meant(self) -> str:
        return f"({', '.join(self.axes)}{',' if len(self.axes) == 1 else ''})"

    def of_kind(self, name: str, value: Any, like: Any, numbers: bool) -> Any:
        dtype = np.asarray(like).dtype if numbers else like.dtype
        if any(jnp.issubdtype(dtype, one) for one in KINDS[self.kind]):
            return value
        whole = jnp.issubdtype(dtype, np.integer) or jnp.issubdtype(dtype, np.bool_)
        if self.kind in PROMOTED and (whole or (self.kind == "Complex" and jnp.issubdtype(dtype, np.floating))):
            if numbers:
                return value
            to = jnp.result_type(float) if whole else jnp.promote_types(dtype, jnp.complex64)
            return like.astype(to) if isinstance(like, np.ndarray | jax.Array) else value
        if not np.prod(np.shape(like)):
            # nothing in it
            return value
        raise _WrongError(f"{name} must be {WORDS.get(self.kind, self.kind)}: given an array of {dtype}.", TypeError)

    def fits(self, name: str, shape: Shape, sizes: _Sizes) -> None:
        new = sizes.copy()
        spread = [i for i, axis in enumerate(self.axes) if axis == "..." or axis.startswith("*")]
        short = len(self.axes) - len(spread)
        fit = len(shape) >= short if spread else len(shape) == short
        if fit and spread:
            at = spread[0]
            after = len(self.axes) - at - 1
            middle, ends = shape[at : len(shape) - after], (*shape[:at], *shape[len(shape) - after :])
            axis = self.axes[at]
            # what broadcasts is for the function to say
            if axis not in ("...", "*_") and "#" not in axis:
                known = new.many.setdefault(axis[1:], (middle, name))
                fit = known[0] == middle
            single = zip((*self.axes[:at], *self.axes[at + 1 :]), ends, strict=True)
        else:
            single = zip(self.axes, shape, strict=False)
        if fit:
            fit = all([_same(axis, size, name, new) for axis, size in single])
        if not fit:
            names = re.findall(r"[A-Za-z_]\w*", " ".join(self.axes))
            raise _WrongError(f"{name} must have the shape {self.meant}{sizes.said(names)}: given {shape}.")
        sizes.one, sizes.many = new.one, new.many


def _same(axis: str, size: int, name: str, sizes: _Sizes) -> bool:
    """Whether an axis may have a size, which its name then stands for."""
    if axis.startswith("#"):
        return size == 1 or _same(axis[1:], size, name, sizes)
    axis = axis.rpartition("=")[2]
    if axis.startswith("_"):
        return True
    if axis.isdigit():
        return size == int(axis)
    if axis.isidentifier():
        return sizes.one.setdefault(axis, (size, name))[0] == size
    names = {one: known for one, (known, _) in sizes.one.items()}
    try:
        return size == eval(axis, {"__builtins__": {}}, names)
    except (NameError, SyntaxError):
        # of a name that no argument before has
        return True


@dataclass
class _Either(_Check):
    """Alternatives, of which those that are no arrays are not looked at."""

    arrays: tuple[_Check, ...]
    numbers: bool
    others: bool

    def __call__(self, name: str, value: Any, sizes: _Sizes) -> Any:
        if value is None or (self.numbers and isinstance(value, bool | int | float | complex)):
            return value
        wrong = []
        for check in self.arrays:
            try:
                return check(name, value, sizes)
            except _WrongError as error:
                wrong.append(error)
        if self.others and not hasattr(value, "shape"):
            return value
        if self.numbers and np.shape(value) == ():
            return value
        raise wrong[0]


@dataclass
class _Sequence(_Check):
    """A tuple or list."""

    each: tuple[_Check | None, ...]
    repeated: bool

    def __call__(self, name: str, value: Any, sizes: _Sizes) -> Any:
        if not isinstance(value, list | tuple) or hasattr(value, "_fields"):
            return value
        if not self.repeated and len(value) != len(self.each):
            raise _WrongError(f"{name} must have {len(self.each)} entries: given {len(value)}.")
        checks = self.each * len(value) if self.repeated else self.each
        pairs = enumerate(zip(checks, value, strict=True))
        new = [one if check is None else check(f"{name}[{i}]", one, sizes) for i, (check, one) in pairs]
        # what needs no promotion stays the same object
        return value if all(a is b for a, b in zip(new, value, strict=True)) else type(value)(new)


@dataclass
class _Fields(_Check):
    """A named tuple, whose fields may have axes of a batch in front, all of them the same."""

    kind: type
    fields: dict[str, _Check]

    def __call__(self, name: str, value: Any, sizes: _Sizes) -> Any:
        if type(value) is not self.kind:
            return value
        arrays = [getattr(value, one) for one in self.fields]
        least = min((np.ndim(one) for one in arrays if hasattr(one, "shape")), default=0)
        wrong: _WrongError | None = None
        for lead in range(least + 1):
            fronts = {tuple(one.shape[:lead]) for one in arrays if hasattr(one, "shape")}
            if len(fronts) > 1:
                break
            inner = _Sizes()
            try:
                new = {
                    one: check(f"{name}.{one}", _Behind.of(getattr(value, one), lead), inner)
                    for one, check in self.fields.items()
                }
            except _WrongError as error:
                wrong = wrong or error
                continue
            promoted = {one: v if not isinstance(v, _Behind) else getattr(value, one) for one, v in new.items()}
            same = all(v is getattr(value, one) for one, v in promoted.items())
            return value if same else value._replace(**promoted)
        raise wrong or _WrongError(f"{name} must have fields of one length in front.")


@dataclass
class _Behind:
    """An array without its first axes."""

    shape: Shape
    dtype: Any

    @staticmethod
    def of(value: Any, lead: int) -> Any:
        return _Behind(tuple(value.shape[lead:]), value.dtype) if lead and hasattr(value, "shape") else value


def check_of(annotation: Any) -> _Check | None:
    """What looks at an argument of an annotation; `None` where there is nothing to look at."""
    while isinstance(annotation, typing.TypeAliasType):
        annotation = annotation.__value__
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, typing.TypeAliasType):
        return None
    if origin is typing.Annotated:
        return check_of(args[0])
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        kind = annotation.dtype.__name__
        return _Array(kind, tuple(annotation.dim_str.split()))
    if origin in (typing.Union, types.UnionType):
        arrays = tuple(check for one in args if (check := check_of(one)) is not None)
        numbers = any(one in (int, float, complex, bool) for one in args)
        others = len(arrays) < len(args)
        return _Either(arrays, numbers, others) if arrays and typing.Any not in args else None
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return None if (one := check_of(args[0])) is None else _Sequence((one,), True)
        each = tuple(map(check_of, args))
        return _Sequence(each, False) if any(each) else None
    if origin in (list, collections.abc.Sequence) and args:
        return None if (one := check_of(args[0])) is None else _Sequence((one,), True)
    if inspect.isclass(annotation) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        return _fields_of(annotation)
    return None


@functools.cache
def _fields_of(kind: type) -> _Check | None:
    space = vars(sys.modules[kind.__module__])
    fields = {}
    for name, annotation in inspect.get_annotations(kind).items():
        check = check_of(_evaluated(annotation, space))
        if isinstance(check, _Array | _Either):
            fields[name] = check
    return _Fields(kind, fields) if fields else None


def _evaluated(annotation: Any, space: Mapping[str, Any]) -> Any:
    """An annotation that may be a string; `Any` where its names are a type checker's alone."""
    if isinstance(annotation, typing.ForwardRef):
        # of a named tuple
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(space), vars(builtins))
    except Exception:
        return Any


class _Arguments:
    """What looks at the arguments of one function, made when it is first called."""

    def __init__(self, function: Callable[..., Any], spaces: Sequence[str]):
        self.function, self.spaces = function, spaces

    @functools.cached_property
    def checks(self) -> tuple[tuple[_Check | None, ...], dict[str, tuple[str, _Check]], tuple[str, ...]]:
        """Of positions, and of names."""
        space = collections.ChainMap(
            dict(getattr(inspect.unwrap(self.function), "__globals__", {})),
            *(vars(sys.modules[one]) for one in self.spaces if one in sys.modules),
        )
        positions, names, called = [], {}, []
        for name, one in inspect.signature(self.function).parameters.items():
            plain = one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
            check = check_of(_evaluated(one.annotation, space)) if plain else None
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD):
                positions.append(check)
                called.append(name)
            if check is not None:
                names[name] = (name, check)
        return tuple(positions), names, tuple(called)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positions, names, called = self.checks
        if not names:
            return args, kwargs
        sizes, new = _Sizes(), list(args)
        try:
            for i, (check, value) in enumerate(zip(positions, args, strict=False)):
                if check is not None:
                    new[i] = check(called[i], value, sizes)
            given = {
                name: names[name][1](name, value, sizes) if name in names else value for name, value in kwargs.items()
            }
        except _WrongError as error:
            wrong = error.kind(f"{self.function.__qualname__.removesuffix('.__init__')}: {error.words}")
            raise wrong from None
        return tuple(new), given

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns, or makes, marked where a check of traced values within it fails."""
        args, kwargs = self(args, kwargs)
        with gathered() as right:
            found = function(*args, **kwargs)
        if not right:
            return found
        if function.__name__ in MAKES:
            return _mark_object(args[0], right)
        if any(map(floating, jax.tree.leaves(found))):
            return marked(found, *right)
        # a check by itself, or what is made is no number: the call around this one is marked
        gather(*right)
        return found


#: What makes an object, and returns none.
MAKES = ("__init__", "__check_init__")
_JITTED = type(jax.jit(lambda: None))


def _mark_object(made: Any, right: list[jax.Array]) -> None:
    """Mark the arrays of an object whose constructor was given traced values that may be wrong."""
    static = {one.name for one in getattr(made, "__dataclass_fields__", {}).values() if one.metadata.get("static")}
    for name, value in vars(made).items():
        if name not in static and any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)):
            object.__setattr__(made, name, marked(value, *right))


def enforced(function: Callable[..., Any], spaces: Sequence[str] = ()) -> Callable[..., Any]:
    """A function that looks at its arguments before it is called; one without annotations of arrays as it is."""
    inner = inspect.unwrap(function)
    words = " ".join(map(str, getattr(function, "__annotations__", {}).values()))
    if not re.search(r"\[|[A-Z]", words):
        return function
    ready = _Arguments(function, spaces)

    def call(*args: Any, **kwargs: Any) -> Any:
        return ready.call(function, args, kwargs)

    # its globals are those of the module, by which doctest knows whose it is
    whole = types.FunctionType(call.__code__, inner.__globals__, inner.__name__, None, call.__closure__)
    whole = functools.update_wrapper(whole, function)
    for name in ("lower", "trace", "eval_shape", "clear_cache"):
        if isinstance(function, _JITTED):
            setattr(whole, name, getattr(function, name))
    return whole


def _made_by_jax(kind: type) -> bool:
    """Whether JAX makes trees of a class by its constructor, whose leaves may have axes of a batch in front."""
    if issubclass(kind, eqx.Module):
        return False
    try:
        return not jax.tree_util.all_leaves([object.__new__(kind)])
    except TypeError:
        # of an abstract class there are none
        return False


def _in_class(kind: type, module: str) -> None:
    """Enforce the annotations of a class's constructor and public methods; of a private one the constructor's alone."""
    if getattr(kind, "_is_protocol", False):
        return
    spaces = [one.__module__ for one in kind.__mro__]
    for name, value in list(vars(kind).items()):
        if (name.startswith("_") or kind.__name__.startswith("_")) and name not in (*MAKES, "__call__"):
            continue
        if name == "__init__" and _made_by_jax(kind):
            continue
        if isinstance(value, classmethod | staticmethod):
            function = value.__func__
            if isinstance(function, types.FunctionType) and function.__module__ == module:
                setattr(kind, name, type(value)(enforced(function, spaces)))
        elif isinstance(value, types.FunctionType | _JITTED):
            own = name == "__init__" or getattr(value, "__module__", None) == module
            if own and hasattr(inspect.unwrap(value), "__globals__"):
                setattr(kind, name, enforced(value, spaces))


def enforce(module: types.ModuleType) -> None:
    """Enforce the annotations of all public functions and classes that a module defines."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if (
            isinstance(value, types.FunctionType | _JITTED)
            and not name.startswith("_")
            and hasattr(inspect.unwrap(value), "__globals__")
        ):
            setattr(module, name, enforced(value))
        elif inspect.isclass(value) and not issubclass(value, tuple | enum.Enum | BaseException):
            _in_class(value, module.__name__)
