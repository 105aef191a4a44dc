"""From a rendered corpus to a checkpoint that speaks and plays."""
