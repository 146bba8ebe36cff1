"""`python -m dini_zoo` is the command `dini`."""

from .kit.cli import main

if __name__ == "__main__":
    main()
