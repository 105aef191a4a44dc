"""What this machine can run, and the next step for what is missing. Imports no engine and no numpy."""
