"""kdloop: a small student chats and learns from what people say of its completions.

People, a teacher and AI judges say which completion was better: that is feedback. A background trainer turns feedback
into training examples, trains a candidate checkpoint in a round, and gates it against the serving one. If the candidate
wins it is promoted, and the next chat turn uses it.
"""

import os

# Read by libgomp as it is loaded, so before PyTorch. Once PyTorch has computed backwards, libgomp counts more threads
# than cores and lets them sleep at every barrier: llama.cpp, which shares it, then writes at half its speed.
os.environ.setdefault("OMP_WAIT_POLICY", "active")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # 10 microseconds: as fast as 3 ms, and others get the core sooner
