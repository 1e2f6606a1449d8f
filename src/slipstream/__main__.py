"""`python -m slipstream`: the command."""

from slipstream.cli import main

if __name__ == "__main__":
    main()
