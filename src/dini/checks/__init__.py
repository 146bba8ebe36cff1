"""Checks of arguments and settings, and their errors."""
