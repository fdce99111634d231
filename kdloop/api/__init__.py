"""A program and the student: endpoints for chats, feedback, status and metrics.

In: a request. Out: JSON, and a token that names the completion. May import everything that the page may, and the
page's session: who calls, the pace of calls, the signing key.
"""
