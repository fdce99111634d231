"""Measurements outside of the loop: rounds with a function as the rater, accuracy on packs, and benchmarks.

In: a home or an empty one, example raters, packs. Out: tables and JSON; nothing here changes what is served. May import
all rooms but the page and the API.
"""
