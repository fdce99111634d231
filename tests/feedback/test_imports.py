# ruff: noqa: E501 (a row of a tool as one line)
"""What was rated elsewhere, as the tools write it; what is wrong in a file is said, and leaves nothing of it behind."""

import gzip
import json
import random
from collections import Counter
from datetime import datetime

import pytest

from kdloop.feedback import collect, exports, imports
from kdloop.feedback.examples import from_feedback
from kdloop.feedback.imports import Unreadable, dry_run, reading
from storage import conversations, feedback, imported, rounds
from storage import imports as stored
from storage.conversations import as_prompt
from storage.database import connect

TABLES = ("conversations", "turns", "completions", "feedback", "imports", "audit")


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def share(role, text):
    return {"from": role, "value": text}


ASKED, SHOWN = "Why is the sea salty?", "[{}Question]\nWhy is the sea salty?\n\n"
JUDGED = "[The Start of Assistant{0}'s Answer]\n{1}\n[The End of Assistant{0}'s Answer]"
TREE = {
    "m1": {"id": "m1", "parentId": None, "childrenIds": ["m2", "m3"], **user(ASKED), "timestamp": 1_760_000_000},
    "m2": {"id": "m2", "parentId": "m1", "childrenIds": [], **assistant("Rivers."), "model": "a", "done": True},
    "m3": {"id": "m3", "parentId": "m1", "childrenIds": [], **assistant("Rocks, by rivers."), "model": "b"},
}
TREE["m3"]["annotation"] = {"rating": 1, "reason": "accurate_information", "comment": "short", "tags": []}
CHAT = {"id": "c1", "title": "Sea", "models": ["a", "b"], "history": {"messages": TREE, "currentId": "m3"}}
RECORD = {"id": "c1", "user_id": "u1", "title": "Sea", "chat": CHAT, "created_at": 1_760_000_000, "archived": False}


def webui(rating, siblings, id="m3"):
    data = {"rating": rating, "model_id": "b", "sibling_model_ids": siblings, "reason": "", "comment": "ok", "tags": []}
    meta = {"arena": bool(siblings), "chat_id": "c1", "message_id": id, "model_id": "b", "tags": ["geo"]}
    return {"id": "f1", "user_id": "u1", "version": 0, "type": "rating", "data": data | {"details": {"rating": 8}},
            "meta": meta, "snapshot": {"chat": RECORD}, "created_at": 1_760_000_100, "updated_at": 1}  # fmt: skip


def battle(winner, **more):
    sides = {f"conversation_{s}": [user(ASKED), assistant(text)] for s, text in (("a", "Rivers."), ("b", "No idea."))}
    return {"question_id": "q1", "model_a": "x", "model_b": "y", "winner": winner, "judge": "arena_user_1", **sides,
            "turn": 1, "anony": True, "language": "English", "tstamp": 1_682_351_591.13, **more}  # fmt: skip


def annotation(selected, cancelled=False):
    result = {"id": "r", "from_name": "pw", "to_name": ["answer1", "answer2"], "type": "pairwise",
              "value": {"selected": selected}}  # fmt: skip
    return {"id": 1, "completed_by": 7, "was_cancelled": cancelled, "created_at": "2026-03-01T10:00:00.123456Z",
            "result": [] if cancelled else [result]}  # fmt: skip


FIELDS = {"instruction": ASKED, "response1": "Rivers.", "response2": "No idea."}
MADE = {  # format -> (a row as its tool writes it, (kind of the first rating, chosen text, rejected text))
    "TRL, preferences": [
        ({"prompt": [user(ASKED)], "chosen": [assistant("Rivers.")], "rejected": [assistant("No.")]}, "Rivers.", "No."),
        ({"chosen": [user(ASKED), assistant("Rivers.")], "rejected": [user(ASKED), assistant("No.")]}, "Rivers.", "No."),
        ({"prompt": "The sea is", "chosen": " salty.", "rejected": " sweet."}, " salty.", " sweet."),
        ({"chosen": "The sea is salty.", "rejected": "The sea is sad."}, " salty.", " sad."),
        (
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"},
            "Hello.",
            "What?",
        ),
        (
            {"prompt": ASKED, "prompt_id": "0", "chosen": [user(ASKED), assistant("Rivers.")], "score_chosen": 8.0,
             "rejected": [user(ASKED), assistant("No.")], "messages": [user(ASKED), assistant("Rivers.")]},
            "Rivers.", "No.",
        ),
    ],
    "TRL, KTO": [
        ({"prompt": [user(ASKED)], "completion": [assistant("Rivers.")], "label": True}, "Rivers.", None),
        ({"prompt": ASKED, "completion": "No.", "label": False}, None, "No."),
    ],
    "TRL, prompts and completions": [({"prompt": ASKED, "completion": "Rivers."}, "Rivers.", None)],
    "OpenAI's preferences": [
        (
            {"input": {"messages": [user(ASKED)], "tools": [], "parallel_tool_calls": True},
             "preferred_output": [assistant("Rivers.")], "non_preferred_output": [assistant("No.")]},
            "Rivers.", "No.",
        )
    ],
    "OpenAI chats": [
        ({"messages": [{"role": "system", "content": "Brief."}, user(ASKED), assistant("Rivers.")]}, "Rivers.", None),
        ({"messages": [user([{"type": "text", "text": ASKED}]), assistant("Rivers.", tool_calls=None)]}, "Rivers.", None),
        ({"messages": [user(ASKED), assistant("Rivers.", weight=1), user("Why?"), assistant("No.", weight=0)]},
         "Rivers.", None),
    ],
    "ShareGPT": [
        ({"id": "s", "conversations": [share("system", "Brief."), share("human", ASKED), share("gpt", "Rivers.")]},
         "Rivers.", None),
        ({"conversations": [share("human", ASKED)], "chosen": share("gpt", "Rivers."), "rejected": share("gpt", "No.")},
         "Rivers.", "No."),
        ({"conversations": [share("human", ASKED), share("gpt", "No.")], "kto_tag": False}, None, "No."),
    ],
    "Alpaca": [
        ({"instruction": "Explain.", "input": ASKED, "output": "Rivers."}, "Rivers.", None),
        ({"instruction": ASKED, "input": "", "chosen": "Rivers.", "rejected": "No.", "history": [["Hi", "Ho"]]},
         "Rivers.", "No."),
    ],
    "UltraFeedback": [
        (
            {"source": "evol", "instruction": ASKED, "models": ["x", "y"], "correct_answers": ["None"], "completions": [
                {"model": "x", "response": "Rivers.", "overall_score": 8.5, "critique": "Fine.", "annotations": {}},
                {"model": "y", "response": "No.", "overall_score": 2.0, "critique": "Bad.", "annotations": {}}]},
            "Rivers.", "No.",
        )
    ],
    "UltraFeedback, binarized": [
        ({"source": "evol", "instruction": ASKED, "chosen_response": "Rivers.", "rejected_response": "No.",
          "chosen_model": "x", "rejected_model": "y", "chosen_avg_rating": 4.5}, "Rivers.", "No."),
    ],
    "LMArena, or MT-bench by people": [
        (battle("model_a"), "Rivers.", "No idea."),
        (battle("model_b", judge=["author_2"], turn=1), "No idea.", "Rivers."),
        (battle("model_a", conv_metadata={}, conversation_a=[user([{"type": "text", "text": ASKED, "image": None}]),
                assistant([{"type": "text", "text": "Rivers."}])]), "Rivers.", "No idea."),
    ],
    "LMArena, as a table": [
        ({"id": 1, "model_a": "x", "model_b": "y", "prompt": json.dumps([ASKED]), "response_a": json.dumps(["Rivers."]),
          "response_b": json.dumps(["No."]), "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}, "No.", "Rivers."),
    ],
    "MT-bench, pairs": [
        ({"question_id": 81, "model_1": "x", "model_2": "y", "g1_winner": "model_1", "g2_winner": "model_1",
          "judge": ["gpt-4", "pair-v2"], "turn": 1, "tstamp": 1_687_222_864.0, "g1_judgment": "[[A]]", "g1_user_prompt":
          SHOWN.format("User ") + JUDGED.format(" A", "Rivers.") + "\n\n" + JUDGED.format(" B", "No.")}, "Rivers.", "No."),
    ],
    "MT-bench, scores": [
        ({"question_id": 81, "model": "x", "judge": ["gpt-4", "single-v1"], "judgment": "Rating: [[10]]", "score": 10,
          "turn": 1, "tstamp": 1.0, "user_prompt": "[Instruction]\nJudge.\n\n" + SHOWN.format("") + JUDGED.format("", "Rivers.")},
         "Rivers.", None),
    ],
    "Open WebUI, feedbacks": [
        (webui(-1, None), None, "Rocks, by rivers."),
        (webui(1, ["a"]), "Rocks, by rivers.", "Rivers."),
        (webui(-1, ["a"]), "Rivers.", "Rocks, by rivers."),
    ],
    "Open WebUI, chats": [(RECORD, "Rocks, by rivers.", None)],
    "Argilla": [
        ({"id": "1", "fields": FIELDS, "metadata": {}, "suggestions": {}, "vectors": {}, "status": "completed",
          "responses": {"ranking": [{"value": ["response2", "response1"], "user_id": "u"}]}}, "No idea.", "Rivers."),
        ({"id": "1", "fields": {"chat": [user(ASKED)], "response": "Rivers."}, "metadata": {}, "suggestions": {},
          "responses": {"rating": [{"value": 5, "user_id": "u"}]}}, "Rivers.", None),
    ],
    "Argilla, flat": [
        ({"id": "1", "status": "completed", **FIELDS, "label.responses": ["response1", "response2"],
          "label.responses.users": ["u", "v"], "label.responses.status": ["submitted", "discarded"]},
         "Rivers.", "No idea."),
    ],
    "Label Studio": [
        ({"id": 1, "data": {"prompt": ASKED, "answer1": "Rivers.", "answer2": "No."}, "predictions": [],
          "annotations": [annotation("right"), annotation("left", cancelled=True)]}, "No.", "Rivers."),
    ],
    "Label Studio, JSON_MIN": [
        ({"id": 1, "prompt": ASKED, "answer1": "Rivers.", "answer2": "No.", "pw": [{"selected": "left"}], "annotator": 7,
          "annotation_id": 3, "created_at": "2026-03-01T10:00:00Z", "lead_time": 3.2}, "Rivers.", "No."),
    ],
}  # fmt: skip
ROWS = [(format, *row) for format, rows in MADE.items() for row in rows]


def write(path, rows, lines=True):
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1), encoding="utf-8")
    return path


def bring(db, path, **about):
    return imports.import_file(db, path, **{"who": "me", "train": True} | about)


def counts(db):
    with connect(db) as c:
        return {name: c[name].count for name in TABLES}


def examples(db):
    """As a round reads them."""
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    return from_feedback(db, round.id)


@pytest.mark.parametrize(("format", "row", "chosen", "rejected"), ROWS, ids=[f"{n} {r[0]}" for n, r in enumerate(ROWS)])
def test_a_row_of_each_tool_becomes_an_example(db, tmp_path, format, row, chosen, rejected):
    report = bring(db, write(tmp_path / "made.json", [row], lines=False), licence="cc0-1.0")
    assert (report.format, report.rows, report.done.rows, dict(report.dropped)) == (format, 1, 1, {})
    (e,) = examples(db).train
    assert (e.source, e.chosen and e.chosen.text, e.rejected and e.rejected.text) == ("import", chosen, rejected)
    assert e.prompt[-1]["role"] == "user" and e.prompt[-1]["content"] and e.rater.startswith("import 1: ")
    assert {k.licence for k in e.completions} == {"cc0-1.0"} and not examples(db).held_out
    before = counts(db)
    again = bring(db, write(tmp_path / "lines.jsonl", [row]))
    assert (again.done.rows, dict(again.dropped)) == (0, {imports.KNOWN: 1}) and counts(db) == before


def test_every_format_has_a_row_here():
    assert set(MADE) == {f.title for f in imports.FORMATS.values()}


def test_one_format_however_it_is_stored(db, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": [user(f"Café {n}?")], "chosen": [assistant("é<|im_end|>")], "rejected": [assistant("no")]}
            for n in range(700)]  # fmt: skip
    array, lines = write(tmp_path / "a.json", rows, lines=False), write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(array.read_bytes()))
    (tmp_path / "bom.jsonl").write_text(lines.read_text(), encoding="utf-16")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=100)
    for name in ("a.json", "a.jsonl", "a.json.gz", "bom.jsonl", "a.parquet"):
        assert dry_run(db, tmp_path / name).new == {"pairs": 700}, name
    bring(db, tmp_path / "a.parquet")
    assert dry_run(db, tmp_path / "a.json.gz").dropped == {imports.KNOWN: 700}
    assert next(imported.rows(db, 1))[0].completions[0].text == "é<|im_end|>", "what looks like a token is text"


def test_llama_factory_names_its_files_and_columns(db, tmp_path):
    info = {
        "mine": {"file_name": "mine.jsonl", "formatting": "sharegpt", "ranking": True,
                 "columns": {"messages": "talk", "chosen": "good", "rejected": "bad"},
                 "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "it"}},
        "plain": {"file_name": "plain.json", "columns": {"prompt": "q", "query": "more", "response": "a"}},
        "far": {"hf_hub_url": "somebody/else"},
        "absent": {"file_name": "absent.json"},
    }  # fmt: skip
    it = {"who": "it"}
    talk = [{"who": "me", "what": ASKED}]
    write(tmp_path / "mine.jsonl", [{"talk": talk, "good": it | {"what": "Rivers."}, "bad": it | {"what": "No."}}])
    write(tmp_path / "plain.json", [{"q": ASKED, "more": "", "a": "Rivers.", "output": "not this"}], lines=False)
    file = tmp_path / "dataset_info.json"
    file.write_text(json.dumps(info))
    named = imports.files_of([file])
    assert [path.name for path, _ in named] == ["mine.jsonl", "plain.json"]
    assert [dry_run(db, *one).new for one in named] == [{"pairs": 1}, {"likes": 1}]
    file.write_text(json.dumps({"out": {"file_name": "../secret.json"}}))
    with pytest.raises(Unreadable, match=r"dataset_info.json: out.file_name is '../secret.json': not in the directory"):
        imports.files_of([file])


GOOD = {"prompt": [user(ASKED)], "chosen": [assistant("Rivers.")], "rejected": [assistant("No.")]}
BAD = {
    "not json": ("{oops", "line 3: no JSON"),
    "a number": ("17", "line 3: a number where a row's object should be"),
    "a list": ("[1, 2]", "line 3: a list where"),
    "no field": (json.dumps({"prompt": "x", "chosen": "y"}), "line 3: no field 'rejected'"),
    "wrong type": (json.dumps(GOOD | {"chosen": 7}), r"line 3: chosen is a number, not a list"),
    "deep in it": (json.dumps(GOOD | {"prompt": [user("a"), {"role": "user"}]}), r"line 3: prompt\[1\] has no content"),
    "a strange role": (json.dumps(GOOD | {"prompt": [{"role": "me", "content": "a"}]}), r"prompt\[0\].role is 'me'"),
    "half a character": (json.dumps(GOOD | {"prompt": "a\ud800"}), "prompt has half a character"),
    "deep nesting": ('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 3: nested too deep"),
    "many digits": ('{"prompt": ' + "9" * 6000 + "}", "line 3: no JSON"),
    "a long line": ('{"prompt": "' + "a" * 3000 + '"}', "line 3: longer than"),
    "cut off": (json.dumps(GOOD)[:-9], "line 3: no JSON"),
    "bytes": (b"\xff\xfe\x00\x80", "no text in UTF-8"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_said_with_its_place_and_nothing_of_the_file_stays(db, tmp_path, monkeypatch, kind):
    if kind == "a long line":
        monkeypatch.setattr(reading, "LONGEST", 2000)
    line, said = BAD[kind]
    good = json.dumps(GOOD).encode()
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join([good, good, line if isinstance(line, bytes) else line.encode()]))
    before = counts(db)
    with pytest.raises(Unreadable, match=f"^bad.jsonl, .*{said}"):
        bring(db, path)
    array = tmp_path / "bad.json"
    array.write_bytes(b"[" + path.read_bytes().replace(b"\n", b",\n") + b"]")
    with pytest.raises(Unreadable, match=r"^bad.json, (after )?line \d"):
        bring(db, array)
    assert counts(db) == before


@pytest.mark.parametrize(
    "text", ["", "[]", "[", "[{}", '[{"a": 1},]', '[{"a": 1}] x', "PAR1junk", '{"a": 1}', "\x1f\x8bjunk"]
)
def test_a_file_that_is_no_data_is_refused_by_name(db, tmp_path, text):
    path = tmp_path / "junk.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Unreadable, match=r"^junk.json"):
        dry_run(db, path)


def mutated(value, draw):
    """The row with one value somewhere in it replaced by one of another type."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw.random() < 0.2:
        return draw.choice([None, 0, -1, 10**400, float("nan"), True, "", "x", [], {}, [[]], [None], {"role": 1}])
    key = draw.choice(keys)
    changed = value.copy()
    changed[key] = mutated(value[key], draw)
    return changed


def test_whatever_stands_in_a_field_a_file_is_read_or_refused(db, tmp_path):
    draw, outcomes = random.Random(7), Counter()
    for n, (_, row, *_) in enumerate(ROWS * 12):
        path = write(tmp_path / "a.jsonl", [row, mutated(row, draw)])
        try:
            report = (bring if n % 4 == 0 else dry_run)(db, path)
            outcomes["read"] += report.rows
        except Unreadable as error:
            outcomes["refused"] += 1
            assert str(error).startswith("a.jsonl, line ") and str(error).isprintable()
    assert min(outcomes.values()) > 50 and len(outcomes) == 2
    with connect(db) as c:
        times = [r[0] for r in c.execute("select created_at from feedback")]
    assert times and all(datetime.fromisoformat(t).tzinfo for t in times)


PAIR, SCORED = (MADE[f"MT-bench, {kind}"][0][0] for kind in ("pairs", "scores"))
LEFT_OUT = [
    (PAIR | {"g2_judgment": "A clear case of [[A]]? No: [[B]]"}, "the judge wrote two verdicts"),
    (PAIR | {"g1_winner": "error"}, "the judge's verdict could not be read"),
    (SCORED | {"judgment": "Above [[5]], I think: [[8]]"}, "the judge wrote two verdicts"),
    (GOOD | {"rejected": [assistant("Rivers.")]}, "both completions are the same"),
    (GOOD | {"chosen": [assistant(" ")]}, "a completion without a text"),
    (GOOD | {"prompt": []}, "no message of a person before the completion"),
    (GOOD | {"tools": [{"type": "function"}]}, "uses tools"),
    (GOOD | {"prompt": [{"role": "tool", "content": "4"}]}, "uses tools"),
    (GOOD | {"prompt": [user([{"type": "image_url", "image_url": {}}])]}, "has images or other media"),
    (
        GOOD | {"chosen": [assistant("a"), user("b"), assistant("c")]},
        "two conversations that go apart before their end",
    ),
    (
        battle("model_a", conversation_a=[user("Other"), assistant("a")]),
        "two conversations that go apart before their end",
    ),
    (webui(1, None, id="gone"), "the rated message is not in the snapshot"),
    (RECORD | {"chat": CHAT | {"history": {"messages": {}}}}, "nobody rated it"),
    ({"messages": [user(ASKED), assistant("No.", weight=0)]}, "no completion"),
]


@pytest.mark.parametrize(("row", "why"), LEFT_OUT)
def test_what_teaches_nothing_is_counted_with_its_reason(db, tmp_path, row, why):
    report = dry_run(db, write(tmp_path / "a.jsonl", [row, row]))
    assert (report.examples, dict(report.dropped)) == (0, {why: 2})


def votes(db, n):
    """`n` rated conversations with system prompts, thoughts and several turns, by chance."""
    draw = random.Random(n)
    for i in range(n):
        before = [{"role": "system", "content": "Be brief."}] * draw.randint(0, 1)
        for turn in range(draw.randint(0, 2)):
            before += [user(f"Hi {i} {turn}\u2028"), assistant("Ho.", **({"reasoning_content": "Hm"} if turn else {}))]
        turn = conversations.add_turn(
            db, conversations.start_conversation(db, "ann"), [*before, *as_prompt(f"Why {i}?")]
        )
        sides = [conversations.add_completion(db, turn.id, "student", text=f"{side} <|im_end|> {i}", checkpoint_id=1,
                                              thought=draw.choice(["", f"thought {i}"])) for side in "ab"]  # fmt: skip
        if draw.random() < 0.5:
            collect.choose(db, "ann", *sides, draw.choice(["left", "right"]))
        else:
            collect.thumb(db, "ann", sides[0], draw.random() < 0.5)


@pytest.mark.parametrize("format", exports.FORMATS)
def test_what_was_exported_comes_back_as_it_was(db, tmp_path, format):
    votes(db, 40)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    n = exports.export(db, format, first)
    report = bring(db, first)
    assert n >= 10 and report.done.rows == report.examples == n
    assert exports.export(db, format, second, imported=report.done.id) == n
    assert sorted(map(canonical, second.open())) == sorted(map(canonical, first.open()))
    assert {r.held_out for r, _ in imported.rows(db, 1)} == {False, True}, "what was held out stays so"
    assert all(e.source == "human" for e in from_feedback(db).held_out)


def canonical(line):
    return json.dumps(json.loads(line), sort_keys=True)


def test_they_train_only_where_the_owner_says_so_and_are_nobodys_votes(db, tmp_path):
    rows = [GOOD | {"prompt": [user(f"Why {n}?")]} for n in range(30)]
    one = bring(db, write(tmp_path / "a.jsonl", rows), train=False).done
    assert not examples(db).train
    stored.set_train(db, one.id, True, "me")
    assert len(examples(db).train) == 30 and not from_feedback(db).train, "only a round reads them"
    assert feedback.count_votes(db) == (0, 0) and not feedback.ai_choices(db, "ann") and not feedback.votes_by_hour(db)
    assert imported.sample(db, 1) and imported.sample(db, 1) == imported.sample(db, 1)


def test_a_round_reads_a_bounded_draw_of_them_another_each_time(db, tmp_path, monkeypatch):
    monkeypatch.setattr(imported, "SAMPLE", 20)
    bring(db, write(tmp_path / "a.jsonl", [GOOD | {"prompt": [user(f"Why {n}?")]} for n in range(60)]))
    draws = [tuple(sorted(imported.sample(db, n))) for n in range(1, 7)]
    assert {len(d) for d in draws} == {20} and len(set(draws)) > 3


def test_undo_removes_that_import_alone_and_names_who_learned_from_it(db, tmp_path):
    first = bring(db, write(tmp_path / "a.jsonl", [GOOD])).done
    before = counts(db)
    second = bring(db, write(tmp_path / "b.jsonl", [GOOD | {"prompt": [user("Other?")]}])).done
    assert stored.remove(db, second.id, "me") == (1, [])
    after = counts(db)
    assert {k: v for k, v in after.items() if k != "audit"} == {k: v for k, v in before.items() if k != "audit"}
    assert [one.id for one in stored.all(db)] == [first.id]
    with pytest.raises(stored.UnknownImport):
        stored.remove(db, second.id, "me")


def test_an_import_that_breaks_off_leaves_nothing_and_one_that_was_killed_is_not_read(db, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 2)
    rows = [r for r, _ in made_rows(db, tmp_path)]
    before = counts(db)

    def broken():
        yield from rows[:5]
        raise OSError("no space left")

    about = {"file": "x", "sha256": "", "format": "x", "rater": "", "licence": "", "restricted": 0, "train": 1}
    with pytest.raises(OSError):
        stored.write(db, broken(), who="me", **about)
    assert counts(db) == before

    def killed():
        yield from rows[:5]
        with connect(db) as c:  # as a process that is gone leaves it
            assert c.execute("select count(*) from conversations where import_id is not null").fetchone()[0] >= 4
        assert imported.sample(db, 1) == []
        monkeypatch.setattr(stored, "delete", lambda *_: None)
        raise OSError("killed")

    with pytest.raises(OSError):
        stored.write(db, killed(), who="me", **about)
    monkeypatch.undo()
    assert imported.sample(db, 1) == []
    assert bring(db, tmp_path / "seven.jsonl").done.rows == 7, "and the next import begins anew"


def made_rows(db, tmp_path):
    path = write(tmp_path / "seven.jsonl", [GOOD | {"prompt": [user(f"Q {n}?")]} for n in range(7)])
    done = bring(db, path).done
    rows = list(imported.rows(db, done.id))
    stored.remove(db, done.id, "me")
    return rows


def test_the_command_says_the_format_and_the_counts(tmp_path, monkeypatch, capsys):
    from kdloop.__main__ import main

    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path / "home"))
    path = str(write(tmp_path / "a.jsonl", [GOOD, GOOD]))
    assert main(["import", path, "--dry-run"]) == 0
    assert "TRL, preferences" in (said := capsys.readouterr().out) and "twice in the file" in said
    assert "nothing is written" in said and main(["import", "--list"]) == 0 and capsys.readouterr().out == ""
    assert main(["import", path, "--no-train", "--rater", "bo", "--licence", "mit"]) == 0
    assert main(["import", "--list"]) == 0
    assert "1 rows that do not train" in capsys.readouterr().out
    assert main(["import", "--undo", "1"]) == 0
    (tmp_path / "b.jsonl").write_text('{"prompt": 1}')
    with pytest.raises(SystemExit):
        main(["import", str(tmp_path / "b.jsonl")])
    assert "b.jsonl, line 1: no format" in capsys.readouterr().err
