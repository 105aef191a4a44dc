"""Backends, which run a bundle's graphs: one protocol, one factory, one package for each engine."""
