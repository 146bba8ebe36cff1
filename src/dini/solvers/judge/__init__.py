"""Where it is decided what becomes of a trial: methods propose, a referee judges."""
