"""Training material: texts and melodies with known content, rendered on the user's own machine."""
