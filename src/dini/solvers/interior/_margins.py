"""Constants that several methods for programs share; those of one method are in its file."""

from __future__ import annotations

#: how much of the way to the boundary a step may go
STAY = 0.99
#: a step gains that leaves less than this share of the least error
GAIN = 0.9
#: the error from which on a point may be beside the solution: active sets are guessed, Newton's method is tried
EARLY = 1e-3
#: Newton's steps towards a solution become shorter by more than this factor, also where the objective is flat to order
#: twenty; those towards infinity keep their length (``exp(-x)``), lose a share that falls (``exp(-x^2)``), or grow
SHRINKS = 0.95
#: by which shares of the violation a filter's points must be better, in violation or value (Waechter and Biegler, 2006)
LESS_VIOLATION, LESS_VALUE = 1e-5, 1e-5
