"""Backends: what runs a bundle's graphs. One protocol, one factory, one package for each engine."""
