"""A person and the student: one chat turn, a choice of two completions, the blind duel, and when a teacher answers.

In: a person's message and the champion (`student.serving`). Out: completions, streamed and stored, and what was shown.
May import raters, student, packs, storage and settings; never knowledge, methods or rounds: what learns from a chat
reads it from the database.
"""
