"""What is in a bundle, what it can say, and what a device needs of it."""
