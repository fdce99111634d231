"""Knowledge elicitation: each source writes ordinary rows (turns, completions, feedback) with provenance."""
