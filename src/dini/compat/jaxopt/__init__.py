"""JAXopt's public names, thin over dini: ``import dini.compat.jaxopt as jaxopt``."""

__all__: list[str] = []
