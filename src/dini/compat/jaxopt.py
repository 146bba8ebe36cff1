"""JAXopt's names: another name of the package ``dini_jaxopt``, which ``pip install "dini[jaxopt]"`` brings.

Its modules are the same objects under both names, so that classes are, too.
"""

import importlib
import sys

try:
    import dini_jaxopt
except ModuleNotFoundError as error:
    if error.name != "dini_jaxopt":
        raise
    raise ImportError(
        'dini.compat.jaxopt is another name of dini_jaxopt, which is not installed: pip install "dini[jaxopt]".'
    ) from error

for _name in dini_jaxopt.MODULES:
    sys.modules[f"{__name__}.{_name}"] = importlib.import_module(f"dini_jaxopt.{_name}")
sys.modules[__name__] = dini_jaxopt
