"""Bilevel problems."""

from ._hypergradient import Hypergradient, Warm, value_and_hypergradient

__all__ = ["Hypergradient", "Warm", "value_and_hypergradient"]
