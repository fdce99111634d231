"""What a process says of itself: sentences, or objects of JSON whoever writes the line."""

import json
import subprocess
import sys

from storage import log

CHATTERS = """
import logging, os, subprocess, sys, threading, warnings
sys.path.insert(0, os.getcwd())
early = logging.getLogger("library"); early.addHandler(logging.StreamHandler())
from storage import log
log.begin(sys.argv[1], round=7)
log.event("round ended", status="promoted", seconds={"train": 1.5}, method=None)
log.event("no snapshot", "no snapshot: \\u201ehub\\u201c is away\\nfor now", "error")
print("a library's line", "in parts"); print("half a line", end="")
early.warning("of a library's logger"); warnings.warn("of Python")
each = [threading.Thread(target=lambda n=n: [print(n, n, n) for _ in range(50)]) for n in range(4)]
for t in each: t.start()
for t in each: t.join()
subprocess.run(["echo", "{}"], stdout=sys.stdout, check=True)
raise ValueError("at the end")
"""


def said(kind):
    command = [sys.executable, "-c", CHATTERS, kind]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONIOENCODING": "utf-8"})


def test_every_line_is_an_object_whoever_writes_it():
    told = said("json")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    events = [x for x in lines if x and x["event"] != log.PRINTED]
    assert told.stderr == "" and told.returncode == 1
    assert all({"time", "level", "event", "message", "round"} <= x.keys() and x["round"] == 7 for x in lines if x)
    about = {"event": "round ended", "level": "info", "status": "promoted", "seconds": {"train": 1.5}}
    assert about.items() <= events[0].items() and "method" not in events[0]
    assert (events[1]["level"], events[1]["message"]) == ("error", "no snapshot: „hub“ is away\nfor now")
    printed = [(x["level"], x["message"]) for x in lines if x and x["event"] == log.PRINTED]
    for whole in (("info", "a library's line in parts"), ("warning", "of a library's logger")):
        assert whole in printed
    for n in range(4):
        assert printed.count(("info", f"{n} {n} {n}")) == 50, "threads do not break into each other's lines"
    assert ("warning", "ValueError: at the end") in printed
    assert ("info", "half a line") in printed


def test_sentences_are_as_they_were_and_what_is_for_json_alone_is_not_said():
    told = said("text")
    assert "round ended" not in told.stdout + told.stderr
    assert "kdloop: no snapshot: „hub“ is away" in told.stderr
    assert "a library's line in parts\nhalf a line" in told.stdout
