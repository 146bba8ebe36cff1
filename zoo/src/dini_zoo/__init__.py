"""Published methods built on dini, each with an experiment that shows its paper's claim."""

from .kit.hook import install

install(__name__)
