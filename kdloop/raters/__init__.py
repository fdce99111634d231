"""What judges completions. A rater is one call: `scores(prompts, completions) -> array of n`, higher is better."""
