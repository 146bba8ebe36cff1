"""Rules of derivatives in the forms that dini needs: the one place that knows ``custom_jvp``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from ..functions import hoist
from ..trees import Tree
from ._linearization import Parameters


def ruled(
    run: Callable[[Any, Any], Any],
    constants: Any,
    parameters: Any,
    derive: Callable[[Any, Any, Parameters, list[Any]], Any],
) -> Any:
    """Return ``run(constants, parameters)``, a named tuple whose field ``x`` alone has a derivative, given by a rule.

    ``derive(ended, constants, moved, tangents)`` is linear in the tangents of the parameters that move. The solution
    in it is differentiated by the same rule again.
    """
    # as leaves, for other people's classes need not take a tangent where a number belongs
    leaves, treedef = jax.tree.flatten(parameters)

    @jax.custom_jvp
    def solution(constants: Any, leaves: list[Any]) -> Any:
        return run(constants, jax.tree.unflatten(treedef, leaves))

    def rule(primals: Tree, tangents: Tree) -> Any:
        ended = solution(*primals)
        moved, dots = Parameters.that_move(primals[1], tangents[1], treedef)
        still = symbolic_zeros(ended)
        if not dots or not jax.tree.leaves(ended.x):
            return ended, still
        return ended, still._replace(x=derive(ended, primals[0], moved, dots))

    solution.defjvp(rule, symbolic_zeros=True)
    return solution(constants, leaves)


def constant(run: Callable[..., Any], *operands: Any) -> Any:
    """Return ``run(*operands)`` as a constant of differentiation, whatever ``run`` does or closes over."""
    hoisted = hoist(run, *operands)

    @jax.custom_jvp
    def fun(consts: Any, operands: Any) -> Any:
        return hoisted(consts, *operands)

    def rule(primals: Tree, tangents: Tree) -> Any:
        del tangents
        out = fun(*primals)
        return out, symbolic_zeros(out)

    fun.defjvp(rule, symbolic_zeros=True)
    return fun(hoisted.consts, operands)


def rederived(x: Tree, operands: Any, derive: Callable[[Any, Any], Any]) -> Any:
    """Return ``x`` with the derivative ``derive((x, operands), tangents)``, linear in tangents that may be symbolic."""

    @jax.custom_jvp
    def same(x: Tree, operands: Any) -> Any:
        del operands
        return x

    same.defjvp(lambda primals, tangents: (same(*primals), derive(primals, tangents)), symbolic_zeros=True)
    return same(x, operands)


def symbolic_zeros(tree: Tree) -> Any:
    """Return the tangents of what does not move."""
    return jax.tree.map(SymbolicZero.from_primal_value, tree)
