"""Published methods built on dini, each with an experiment that shows its paper's claim."""
