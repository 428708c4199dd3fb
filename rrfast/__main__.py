"""`python -m rrfast` is the `rrfast` command."""

from rrfast.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
