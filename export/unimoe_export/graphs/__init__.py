"""The graphs of a bundle, written node by node."""
