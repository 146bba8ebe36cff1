"""How far a step goes: a number, a schedule, or a transformation of optax."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import positive, require_number, require_positive
from ..functions import as_function
from ..trees import Tree


@record
class Length:
    """Steps of one length."""

    value: Any

    def init(self, params: Tree) -> Any:
        """Return no state."""
        del params
        return ()

    def length(self, count: Any) -> Any:
        """Return the length of a step."""
        del count
        return self.value

    def step(self, params: Tree, direction: Tree, state: Any, count: Any) -> tuple[Any, Any]:
        """Return the next point and state."""
        return trees.axpy(-jnp.asarray(self.length(count)), direction, params), state


@record
class Schedule(Length):
    """Steps whose length is a function of their number, which starts with zero."""

    def length(self, count: Any) -> Any:
        """Return the length of a step."""
        return positive(self.value(count))


@record
class Transformation:
    """Steps that a transformation of optax makes of the directions."""

    value: Any = field(metadata={"static": True})

    def init(self, params: Tree) -> Any:
        """Return the transformation's state."""
        return self.value.init(params)

    def length(self, count: Any) -> Any:
        """Return one: a projection has no length."""
        del count
        return 1.0

    def step(self, params: Tree, direction: Tree, state: Any, count: Any) -> tuple[Any, Any]:
        """Return the next point and state."""
        del count
        updates, state = self.value.update(direction, state, params)
        return jax.tree.map(lambda p, u: jnp.asarray(p + u, p.dtype), params, updates), state


def as_rule(name: str, given: Any, *, sized: bool = False) -> Any:
    """Return a rule for a number, a schedule or a transformation, or raise; ``sized`` steps have a length."""
    if isinstance(given, Length | Transformation):
        return given
    if callable(getattr(given, "init", None)) and callable(getattr(given, "update", None)):
        if sized:
            raise ValueError(
                f"{name} must be a number or a schedule where a proximal operator takes the length of the step: given "
                f"{given!r}. Use a constraint in place of a penalty, or a number."
            )
        return Transformation(given)
    if callable(given):
        return Schedule(as_function(given, name))
    if given is None:
        raise TypeError(f"{name} must be a number, a function of the step's number, or a transformation of optax.")
    require_number(name, given)
    require_positive(name, given)
    return Length(given)
