"""The oracle: every graph computed in numpy from its definition."""
