"""What this machine can run, and the next step for each missing part. It imports no engine and no numpy."""
