"""Dataclasses as pytrees."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from jax.tree_util import GetAttrKey, register_pytree_with_keys


def register[Class: type](cls: Class) -> Class:
    """Register a dataclass as a pytree; fields whose metadata say ``static`` are not leaves.

    Unlike :func:`jax.tree_util.register_dataclass`, the class is put together again without its constructor: the
    derivative with respect to a set or a penalty is an object of its class, but a tangent of a radius need not be
    positive, and JAX and its users put all kinds of things where a number belongs.
    """
    static = tuple(f.name for f in fields(cls) if f.metadata.get("static"))
    data = tuple(f.name for f in fields(cls) if not f.metadata.get("static"))
    keys = tuple(map(GetAttrKey, data))

    def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = node.__dict__  # a solve flattens several objects: no further function is called here
        return tuple([values[name] for name in data]), tuple([values[name] for name in static])

    def flatten_with_keys(node: Any) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        children, aux = flatten(node)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        node = object.__new__(cls)
        node.__dict__.update(zip(data, children, strict=True))
        node.__dict__.update(zip(static, aux, strict=True))
        return node

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
