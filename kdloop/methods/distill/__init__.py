"""Methods with a teacher's distribution or hidden states, beside or in place of its texts."""
