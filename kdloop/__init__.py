"""kdloop: a small student chats and learns from what people say of its completions.

People, a teacher and AI judges say which completion was better: that is feedback. A background trainer turns feedback
into training examples, trains a candidate checkpoint in a round, and gates it against the serving one. If the candidate
wins it is promoted, and the next chat turn uses it.
"""

import os

# Read by libgomp as it is loaded, so before PyTorch, and by the processes that are started here. Its default waits for
# 3 ms at every barrier, which keeps the core from others; waiting passively, llama.cpp writes at a third of its speed.
os.environ.setdefault("OMP_WAIT_POLICY", "active")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # about 10 microseconds: alone as fast as 3 ms (docs/log.md)
