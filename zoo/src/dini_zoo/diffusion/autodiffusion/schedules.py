"""Fixed spacings of few steps among many, which a search is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from dini_zoo.kit.checking import at_least, one_of

from ..chains import Chain

SPACINGS = ("stride", "linspace", "quadratic", "log SNR", "Karras")


def spaced(name: str, chain: Chain, count: int, *, rho: float = 7.0) -> tuple[int, ...]:
    r"""So many steps of a chain, by a rule.

    Parameters
    ----------
    name
        `"stride"`: :math:`i \lfloor T / K \rfloor`, DDIM's; `"linspace"` and `"quadratic"`: :math:`u` and :math:`u^2`
        times the last index, with :math:`u` from 0 to 1; `"log SNR"` and `"Karras"`: the steps nearest to equal
        distances of :math:`\log(\alpha / \sigma)` and of :math:`(\sigma / \alpha)^{1/\rho}` between the ends.
    chain
        The chain.
    count
        :math:`K`, at most the chain's length.
    rho
        Of Karras' rule.

    Raises
    ------
    ValueError
        For another name, a count out of range, and where two steps would be the same one.
    """
    one_of("name", name, SPACINGS)
    T = len(chain)
    at_least("count", count, 1)
    if count > T:
        raise ValueError(f"count must be at most the chain's {T} steps: given {count}.")
    u = np.linspace(0.0, 1.0, count)
    level = np.asarray(chain.alpha_bar, float)
    noise = np.sqrt((1 - level) / level)
    if name == "stride":
        steps = np.arange(count) * (T // count)
    elif name == "linspace":
        steps = np.round((T - 1) * u)
    elif name == "quadratic":
        steps = np.round((T - 1) * u**2)
    else:
        scale = np.log(noise) if name == "log SNR" else noise ** (1 / rho)
        wanted = scale[0] + u * (scale[-1] - scale[0])
        steps = np.argmin(np.abs(scale[None] - wanted[:, None]), axis=1)
    found = tuple(int(step) for step in steps)
    if len(set(found)) < count:
        raise ValueError(f"{count} steps by the rule {name!r} would repeat: {found}. Take fewer.")
    return found


def checked_steps(steps: Any, T: int) -> tuple[int, ...]:
    """Steps in their order; `ValueError` for none, repeated ones, and those out of range."""
    found = tuple(sorted(int(step) for step in steps))
    if not found or len(set(found)) < len(found) or found[0] < 0 or found[-1] >= T:
        raise ValueError(f"steps must be one or more different ones from 0 to {T - 1}: given {tuple(steps)}.")
    return found
