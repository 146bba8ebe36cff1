"""Functions of the user as pytrees.

A problem holds the user's functions. As pytrees they travel through ``jax.jit`` (a plain function is static, with what
it reads besides its arguments; the arrays of a callable module are data), and once *closed* every array that a
function closes over is a leaf too, so that a derivative rule sees it.
"""

from ._functions import Closed, Key, Module, UserFunction, all_arrays, as_function, close, function_name
from ._hoist import hoist

__all__ = ["Closed", "Key", "Module", "UserFunction", "all_arrays", "as_function", "close", "function_name", "hoist"]
