"""Measurements that take long: each module has `run(...)` and is a command of its own."""
