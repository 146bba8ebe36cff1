"""What problems, sets, penalties, conditions, modes and solvers are: frozen dataclasses of settings, as pytrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, dataclass_transform, overload

from .. import trees
from ..explanations import explained


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record[Class: type](cls: Class, /) -> Class: ...
@overload
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record[Class: type](*, init: bool) -> Callable[[Class], Class]: ...
def record(cls: Any = None, /, *, init: bool = True) -> Any:
    """Make a class a frozen dataclass and a pytree, whose constructor explains what it does not take.

    It applies to each class of this library, in this order: :func:`dataclasses.dataclass`,
    :func:`dini.trees.register` (fields whose metadata say ``static`` are not leaves), and
    :func:`dini.explanations.explained` around ``__init__``, which recognizes other libraries' names of a setting.
    """

    def made(cls: Any) -> Any:
        cls = trees.register(dataclasses.dataclass(frozen=True, init=init)(cls))
        cls.__init__ = explained(cls.__init__, cls.__name__)
        return cls

    return made if cls is None else made(cls)
