"""What judges completions: checks, the preference model, a teacher as judge.

In: prompts, completions, and people's votes on such. Out: scores, probabilities and verdicts, each with what proves its
rater's skill. May import feedback, packs, student and storage.
"""
