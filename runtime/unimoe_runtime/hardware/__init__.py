"""This machine's hardware, and the deployment targets with their precisions, memory and bandwidth."""
