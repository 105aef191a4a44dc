"""Reading checkpoints: our folder and the published one."""
