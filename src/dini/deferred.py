"""What is imported when it is first needed: most of dini itself, Lineax and jaxtyping.

A package's ``__init__.py`` has its names three times: as imports, which type checkers and editors read, in ``__all__``,
and in a table of the modules that define them, by which :func:`late` finds them (PEP 562). The table is made of the
imports by ``tests/house/late.py``.

Lineax and jaxtyping together take as long as half of JAX. Lineax solves by ``LSMR`` and where a user names one of its
solvers; shapes in annotations are strings until they are read. `jax.extend` is not among them: it brings Pallas,
which adds settings to those by which JAX knows a compiled program, and what was being traced would be compiled again at
its second call.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int
else:
    Array = jax.Array

    class _Shaped(type):
        """A name of jaxtyping, which is that of the class: ``Float[Array, "n"]`` looks it up."""

        def __getitem__(cls, shape):
            return getattr(deferred("jaxtyping"), cls.__name__)[shape]

    class Bool(metaclass=_Shaped):
        """Booleans of a shape."""

    class Float(metaclass=_Shaped):
        """Floating-point numbers of a shape."""

    class Int(metaclass=_Shaped):
        """Integers of a shape."""


__all__ = ["Array", "Bool", "Float", "Int", "deferred", "is_literal", "late"]


@functools.cache
def deferred(name: str) -> Any:
    """Return a module, imported at the first call."""
    with jax.ensure_compile_time_eval():  # arrays that an import makes are no part of a program that is being traced
        return importlib.import_module(name)


def late(
    package: str,
    table: Mapping[str, str],
    public: Sequence[str],
    missing: Callable[[str, str], AttributeError],
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose names are imported when they are first asked for.

    ``table`` has the names, between spaces, that stand in each module (``"._bfgs"``, as in an import). A module of the
    package is an attribute whether or not something has imported it already. ``missing(package, name)`` is the error
    for any other name.
    """
    module_of = {name: module for module, names in table.items() for name in names.split()}
    space = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name in module_of:
            value = getattr(deferred(importlib.util.resolve_name(module_of[name], package)), name)
        elif not name.startswith("__") and importlib.util.find_spec(f"{package}.{name}") is not None:
            value = deferred(f"{package}.{name}")
        else:
            raise missing(package, name)
        space[name] = value
        return value

    return get, lambda: sorted({*space, *public})


def is_literal(atom: Any) -> bool:
    """Return whether an operand in a jaxpr is a number that is written there, and no variable."""
    return isinstance(atom, jax.extend.core.Literal)
