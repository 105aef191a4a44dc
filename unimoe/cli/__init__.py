"""The `unimoe` command.

Importing it imports nothing else, so that `main` handles signals before the slow imports begin.
"""

from __future__ import annotations


def main() -> None:
    """Entry point. An error becomes one line and exit code 1; UNIMOE_DEBUG=1 shows its traceback.

    Ctrl-C, SIGTERM and SIGHUP exit with 128 plus the signal's number, as in a shell.
    """
    from unimoe.cli.process import hear_signals

    hear_signals()
    from unimoe.cli.running import run

    run()
