"""What was said of completions: taken in by id, and merged into the examples that everything later learns from.

In: votes, stars, corrections and critiques of people, and rows that AI raters wrote. Out: `Example`s, split into those
for training and those held out; exports and cards. May import packs, student and storage: who refits a rater after a
vote is the caller's business.
"""
