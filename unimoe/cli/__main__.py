"""`python -m unimoe.cli`."""

from unimoe.cli import main

main()
