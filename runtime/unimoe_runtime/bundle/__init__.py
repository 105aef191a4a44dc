"""The bundle: manifest and weights, engine sets, routing statistics."""
