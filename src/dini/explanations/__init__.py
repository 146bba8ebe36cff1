"""Explanations: the cause of a failure, and the remedy.

A check says itself, in one sentence, which argument it refuses, what was given and what is needed. Longer
analyses are here: what is meant by a name of another library, which argument causes an error of JAX, what to do about a
status. The functions take what was given and the error, and return a sentence or an exception, or ``None`` where they
have no better explanation; they raise nothing. They are imported after a failure only: a call that succeeds needs none
of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

__all__ = ["explained", "missing_method", "missing_name", "missing_part", "unpacked"]


def explained[Function: Callable[..., Any]](
    function: Function, owner: str = "", *, solver: str | None = None, misused: str | None = None
) -> Function:
    """Return a function that says more of a keyword that it does not have, and of a start that is missing.

    ``owner`` is its name for users, and ``solver`` a solver that takes the settings for which there is none here.
    ``misused`` is the message about any arguments that it does not take.
    """
    owner = owner or function.__name__

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        try:
            return function(*args, **keywords)
        except (TypeError, ValueError) as error:
            from . import arguments

            better = arguments.cause(error, function, owner, args, keywords, solver=solver, misused=misused)
            if better is None:
                raise
            raise better from None

    return cast(Function, call)


def missing_name(module: str, name: str) -> AttributeError:
    """Return the error for a name that a module does not have, which says where it is or what takes its place."""
    from . import names

    return names.of_module(module, name)


def missing_method(name: str, solver: str, kind: str) -> str | None:
    """Return what to say of JAXopt's method of that name, asked of a solver for one kind of problems, or ``None``."""
    from . import names

    return names.of_method(name, solver, kind)


def missing_part(name: str) -> str | None:
    """Return what to say of a part that other libraries' solutions have, or ``None``."""
    from . import names

    return names.of_solution(name)


def unpacked() -> TypeError:
    """Return the error where a solution is used as a tuple."""
    from . import names

    return TypeError(names.UNPACKED)
