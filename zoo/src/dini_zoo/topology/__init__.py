"""Topology that can be differentiated. What its systems share stands in modules here."""
