"""What JAXopt's classes have in common: dataclasses whose arguments are described once, and the type of their states.

A class has the fields of JAXopt's, with types. What a field means comes from the arguments of :func:`solver_class`, or
else from :data:`ARGUMENTS`, where all classes have it in common.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import namedtuple
from collections.abc import Callable
from typing import Any, dataclass_transform

import jax

type Function = Callable[..., Any]
type Number = float | jax.Array
AutoOrBoolean = str | bool

#: what an argument means in all classes whose row says nothing else
ARGUMENTS = {
    "fun": "``fun(x, *args, **kwargs)``.",
    "value_and_grad": "Whether ``fun`` returns the value and the gradient; or a function that returns both.",
    "has_aux": "Whether the function returns a pair, of which the second is an auxiliary output.",
    "maxiter": "Limit on the number of iterations.",
    "maxls": "Limit on the number of trials of a line search.",
    "tol": "Absolute tolerance on the error, {error}.",
    "stepsize": "A number, a function of the iteration, or at most zero for a line search.",
    "acceleration": "Whether to use momentum.",
    "max_stepsize": "Longest step.",
    "verbose": "Whether to print a line for each iteration.",
    "implicit_diff": "Whether to differentiate the optimality condition (``True``) or the iterations.",
    "implicit_diff_solve": "A linear solver ``solve(matvec, b)`` for the derivative; by default dini chooses.",
    "jit": "Whether to compile; if not, the loop is Python's.",
    "unroll": "Whether loops within ``update`` are of fixed length; ``'auto'``: where iterations are differentiated.",
}
#: all classes by name
TABLE: dict[str, Any] = {}


@dataclass_transform(eq_default=False)
def solver_class[Class: type](
    *,
    solver: str = "",
    error: str = "the norm of the gradient",
    state: str = "",
    renamed: str = "",
    ignored: str = "",
    about: dict[str, str] | None = None,
) -> Callable[[Class], Class]:
    """Return a decorator that makes one of JAXopt's classes, a dataclass whose docstring describes each argument.

    The base is the class of its family, which states the problem. The fields are JAXopt's arguments, in JAXopt's order.

    Parameters
    ----------
    solver
        The name of dini's solver, for which the family's ``_method`` collects the settings; by default the class's.
    error
        What ``tol`` is compared with.
    state
        The fields of its states, beside those that all have.
    renamed
        Pairs ``theirs:ours`` of settings of dini's solver.
    ignored
        Names of arguments without effect.
    about
        What arguments mean, where that is not what they mean elsewhere; several names may stand together.
    """
    pairs = dict(pair.split(":") for pair in renamed.split())

    def decorate(cls: Class) -> Class:
        made: Any = dataclasses.dataclass(eq=False)(cls)
        name, base = made.__name__, made.__mro__[1]
        # the site's builder takes methods of another module for references to that one
        made.__module__ = made.__init__.__module__ = made.__repr__.__module__ = "dini_jaxopt"
        made.solver_name, made.renamed = solver or name, getattr(base, "renamed", {}) | pairs
        if state:
            of_state = ["iter_num", *state.split(), "status", "solver_state"]
            nothing = [None] * len(of_state)
            made.state_type = namedtuple(f"{name}State", of_state, defaults=nothing)  # pyright: ignore[reportUntypedNamedTuple]
            # by which states are pickled
            made.state_type.__module__, made.state_type.__qualname__ = "dini_jaxopt", f"{name}.state_type"
        settings = {theirs: f"``{ours}`` of :class:`dini.{solver or name}`." for theirs, ours in pairs.items()}
        made.about = getattr(base, "about", {}) | settings | (about or {})
        names = [each.name for each in dataclasses.fields(made)]
        made.__doc__ = _docstring(made.__doc__, names, ARGUMENTS | made.about, ignored.split(), error)
        TABLE[name] = made
        return made

    return decorate


def _docstring(written: str, names: list[str], about: dict[str, str], ignored: list[str], error: str) -> str:
    """Return a docstring with a section of parameters before its examples."""
    head, examples, shown = inspect.cleandoc(written).partition("Examples\n--------\n")
    parts, entries, described = [head.rstrip()], [], set(ignored)
    for key, words in about.items():  # several names with one meaning
        if "," in key:
            entries.append((key, words))
            described |= set(key.split(", "))
    entries = [(name, about[name]) for name in names if name not in described] + entries
    if ignored:
        entries.append((", ".join(ignored), "Accepted for compatibility with JAXopt: no effect."))
    if entries:
        lines = [f"{name}\n    {words.replace('{error}', error)}" for name, words in entries]
        parts.append("\n".join(["Parameters\n----------", *lines]))
    if examples:
        parts.append(examples + shown)
    return "\n\n".join(parts) + "\n"
