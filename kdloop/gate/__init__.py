"""Candidate and champion -> verdict.

In: two engines, held-out prompts and pairs, and who judges (checks, the preference model, log-probability margins).
Out: paired outcomes with their test, guards that block alone, and a verdict with its reason in one sentence. May import
raters, feedback, packs, student and storage; never training (methods, rounds).
"""
