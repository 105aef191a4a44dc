"""What this machine has, and the deployment targets with their precisions, memory and bandwidth."""
