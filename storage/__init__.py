"""Everything that persists: one SQLite file and the checkpoint directories beside it.

The only package with SQL. Every function takes the path of the database and opens a connection of its own
(about 0.2 ms with WAL), so that threads, the app and the trainer process never share one.
"""
