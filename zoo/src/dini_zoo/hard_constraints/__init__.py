from .constraint import *
