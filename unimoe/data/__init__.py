"""Training material: texts and melodies with known content, rendered on the maker's own machine."""
