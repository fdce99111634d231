"""Methods that learn from a reward."""
