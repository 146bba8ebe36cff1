"""What takes long to import, imported when it is first needed: Lineax and jaxtyping.

Together they take as long as half of JAX. Lineax solves by ``LSMR`` and where a user names one of its solvers; shapes
in annotations are strings until somebody reads them. `jax.extend` is not among them: it brings Pallas, which adds
settings to those by which JAX knows a compiled program, and what was being traced would be compiled again at its second
call.
"""

from __future__ import annotations

import functools
import importlib
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


__all__ = ["Array", "Bool", "Float", "Int", "deferred", "is_literal"]


@functools.cache
def deferred(name: str) -> Any:
    """Return a module, imported at the first call."""
    with jax.ensure_compile_time_eval():  # arrays that an import makes are no part of a program that is being traced
        return importlib.import_module(name)


def is_literal(atom: Any) -> bool:
    """Return whether an operand in a jaxpr is a number that is written there, and no variable."""
    return isinstance(atom, jax.extend.core.Literal)
