"""DiffTactile: a soft tactile sensor in contact, simulated so that forces and markers have derivatives.

`TactileSim` moves an elastomer against an obstacle by explicit steps, with the constants of `Parameters`, and measures
a `Rollout`. `FisheyeCamera` and `MarkerReadout` are what the sensor's camera sees of its surface, `OpticalMLP` renders
the light on it. `calibration_loss` compares with what was measured, `evolve` is the evolution strategy beside which
gradients are tried. Meshes, the material, contact and the equilibrium are in the field's modules. The experiment is in
`study`, what it prints and draws in `report` and `picture`.
"""

from .calibration import Evolved, Goal, calibration_loss, evolve, mismatch, relative_error
from .camera import FisheyeCamera, MarkerReadout
from .optics import OpticalMLP, pixel_normals, vertex_normals
from .sensor import Parameters, Rollout, TactileSim

__all__ = [
    "Evolved",
    "FisheyeCamera",
    "Goal",
    "MarkerReadout",
    "OpticalMLP",
    "Parameters",
    "Rollout",
    "TactileSim",
    "calibration_loss",
    "evolve",
    "mismatch",
    "pixel_normals",
    "relative_error",
    "vertex_normals",
]
