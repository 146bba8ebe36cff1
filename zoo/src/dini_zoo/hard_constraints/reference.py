"""The solution of diffusion-sorption by the method of lines."""
from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from scipy.sparse import diags_array

from .diffusion_sorption import FLOOR, DiffusionSorption


def method_of_lines(
    pde: DiffusionSorption, initial: float, *, cells: int = 128, tolerance: float = 1e-6
) -> Float[np.ndarray, "t x"]:
    h = 1 / cells
    slope = pde.diffusivity / h
    strength = (1 - pde.porosity) / pde.porosity * pde.density * pde.sorption * pde.exponent
    def ghosts(u):
        return 2 - u[0], u[-1] * (slope + 0.5) / (slope - 0.5)

    def rate(t, u):
        left, right = ghosts(u)
        padded = np.concatenate([[left], u, [right]])
        R = 1 + strength * (np.maximum(u, 0) + FLOOR) ** (pde.exponent - 1)
        return pde.diffusivity / R * np.diff(padded, 2) / h**2

    pattern = diags_array([np.ones(cells - 1), np.ones(cells), np.ones(cells - 1)], offsets=[-1, 0, 1])
    found = solve_ivp(rate, (0, pde.duration), np.full(cells, initial), method="BDF", t_eval=pde.t, rtol=tolerance, atol=tolerance, jac_sparsity=pattern)
    centers = (np.arange(cells) + 0.5) * h
    u = found.y.T
    right = u[:, -1] * (1 + (slope + 0.5) / (slope - 0.5)) / 2
    nodes = np.concatenate([[0], centers, [1]])
    out = np.stack([np.interp(pde.x, nodes, row) for row in np.column_stack([np.ones(len(u)), u, right])])
    out[0] = initial
    return out
