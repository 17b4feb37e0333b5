"""`python -m samerge_edu` is `samerge-edu`, for when the command is not on the path."""

from .cli import main

if __name__ == "__main__":
    main()
