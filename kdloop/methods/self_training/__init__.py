"""Methods whose teacher is the student itself."""
