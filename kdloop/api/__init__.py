"""A program and the student: OpenAI's routes, feedback by receipt, keys, metrics; and Gradio's own endpoints.

In: a request. Out: JSON, or events; each completion has a receipt, by which alone it can be rated. May import all that
the page may, and the page's session: the pace of calls, the signing key.
"""
