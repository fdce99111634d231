"""A person and the student: chat turns, choices of two completions, blind duels, and delegation to a teacher.

In: a person's message and the champion (`student.serving`). Out: completions, streamed and stored.
May import raters, student, packs, storage and settings; never knowledge, methods or rounds: what trains on chats
reads them from the database.
"""
