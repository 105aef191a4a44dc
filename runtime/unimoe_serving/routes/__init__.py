"""HTTP endpoints, one module for each kind."""
