"""Feedback on completions: recorded by id, and merged into the examples that all later stages learn from.

In: votes, stars, corrections and critiques of people, and rows that AI raters wrote. Out: `Example`s, split into those
for training and those held out; exports and cards. May import packs, student and storage: who refits a rater after a
vote is the caller's business.
"""
