"""The language model around its graphs: positions, routing, delay pattern, sampling, generation."""
