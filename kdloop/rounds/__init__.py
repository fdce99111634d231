"""One round: elicit -> select -> train -> gate -> promote or reject, readable top to bottom in run.py.

In: a queued round's row. Out: a candidate, its verdict, and the row's status at each step. The trainer process carries
it out; the supervisor, in the app's own process, starts, pauses for chats, and ends it. May import everything below
(gate, methods, recipes, knowledge, raters, feedback, student, storage); never Gradio.
"""
