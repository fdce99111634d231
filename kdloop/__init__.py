"""kdloop: a small student chats and learns from what people say of its completions.

People, a teacher and AI judges say which completion was better: that is feedback. A background trainer turns feedback
into training examples, trains a candidate checkpoint in a round, and gates it against the serving one. If the candidate
wins it is promoted, and the next chat turn uses it.
"""
