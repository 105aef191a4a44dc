"""The content of a bundle, its abilities, and the files that a device needs."""
