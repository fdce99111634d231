"""Exported rows: one line each for every reader, and the same columns whichever file or line is read first."""

import json
from collections import Counter

import pytest
import yaml
from datasets import load_dataset
from parts import learned_from
from test_collect import ask

from kdloop import __main__ as cli
from kdloop import packs
from kdloop.feedback import collect, exports
from kdloop.feedback.examples import from_feedback
from storage import checkpoints, conversations, json_lines, people
from storage import imports as stored
from storage.conversations import as_prompt
from storage.database import connect, open_database
from storage.snapshots import open_target

ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines splits
TORN = "".join(f"word {i}{end}" for i, end in enumerate(ENDS)) + "the end"


def home(directory, question, turns, system=""):
    """A database with a choice, a correction and a thumb in one conversation, after so many turns."""
    db = open_database(directory / "kdloop.db")
    base = checkpoints.ensure_base(db).id
    conversation = conversations.start_conversation(db, "ann", question)
    told = [{"role": "system", "content": system}] if system else []
    for n in range(turns):
        told += [{"role": "user", "content": f"{question} {n}"}, {"role": "assistant", "content": f"Well {n}."}]
    turn = conversations.add_turn(db, conversation, [*told, *as_prompt(question)])
    left, right = (
        conversations.add_completion(db, turn.id, "student", text=f"{TORN} {side}", checkpoint_id=base)
        for side in ("left", "right")
    )
    collect.choose(db, "ann", left, right, "left")
    collect.edit(db, "ann", left, f"Better: {TORN}")
    collect.thumb(db, "ann", right, False)
    return db


@pytest.mark.parametrize("format", exports.FORMATS)
def test_every_record_is_a_line_and_every_line_has_every_key(tmp_path, format):
    files = []
    for name, shape in {"a": ("Why?", 0), "b": (f"Why so{ENDS}?", 2, "Be brief.")}.items():
        (tmp_path / name).mkdir()
        db, file = home(tmp_path / name, *shape), tmp_path / f"{name}.jsonl"
        assert (n := exports.export(db, format, file)) >= 2
        text = file.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        assert len(rows) == n and len({tuple(r) for r in rows}) == 1
        messages = [m for r in rows for part in r.values() if isinstance(part, list) for m in part]
        assert {tuple(m) for m in messages} == {("role", "content")}
        assert any(TORN in m["content"] for m in messages), "what people wrote is as they wrote it"
        files.append((str(file), rows))
    for order in (files, files[::-1]):
        read = load_dataset("json", data_files=[f for f, _ in order], split="train", cache_dir=str(tmp_path / "cache"))
        assert list(read) == [r for _, rows in order for r in rows]


def test_what_others_wrote_with_raw_line_ends_is_read_line_by_line(tmp_path, monkeypatch):
    rows = [{"prompt": f"Does {end!r} end{end}a line?", "answer": "No"} for end in "\x85\u2028\u2029"]
    pack = tmp_path / "packs" / "torn"
    pack.mkdir(parents=True)
    (pack / "pack.toml").write_text('about = "line ends"')
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    (pack / "train.jsonl").write_text("\ufeff" + lines + "\n", encoding="utf-8")
    assert list(json_lines.read(pack / "train.jsonl")) == rows
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))
    assert packs.prompts("torn", "train") == [r["prompt"] for r in rows]


def test_what_a_pack_disclaims_goes_along_with_the_answers_of_who_learned_from_it(tmp_path, monkeypatch):
    (tmp_path / "packs" / "law").mkdir(parents=True)
    (tmp_path / "packs" / "law" / "pack.toml").write_text('disclaimer = "No legal advice."')
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))
    db = rated_home(tmp_path)
    learned_from(db, "law")
    for format in exports.FORMATS:
        exports.export(db, format, tmp_path / "out.jsonl")
        assert {row["disclaimer"] for row in json_lines.read(tmp_path / "out.jsonl")} == {""}, "none of it is by v1"
    with connect(db) as c:
        c.execute("update completions set checkpoint_id = 2 where text like 'A goat 1:%'")
        c.commit()
    exports.publish(db, open_target(str(tmp_path / "set")), "mit")
    rows = [*json_lines.read(tmp_path / "set" / "dpo.jsonl")]
    said = [(row["disclaimer"], "A goat 1:" in json.dumps(row)) for row in rows]
    assert set(said) == {("No legal advice.", True), ("", False)}
    assert all(set(row) == {"messages"} for row in json_lines.read(tmp_path / "set" / "train_sft.jsonl"))
    assert "**Of the pack law:** No legal advice." in (tmp_path / "set" / "README.md").read_text()


def test_a_persons_copy_reads_back_as_it_was_said(db):
    (k,) = ask(db, TORN)
    collect.thumb(db, "ann", k, True)
    copy = people.everything(db, "ann")
    text = json_lines.dump(copy, indent=1)
    assert json.loads(text) == copy and Counter(text.splitlines()) == Counter(text.split("\n"))


def test_a_word_before_a_raw_line_separator_is_erased_from_what_rounds_wrote(db):
    """ "Hello", U+2028, "there": two words, and one line of the person's own."""
    said = "Hello\u2028there"
    ask(db, "Hi.", person="round 1", question=said)
    ask(db, "Hi.", person="ann", question=said)
    people.erase(db, "ann")
    assert said.encode() not in db.read_bytes()


def rated_home(directory, n=30):
    """A database with a choice in each of n conversations: some of them are held out."""
    db = open_database(directory / "kdloop.db")
    base = checkpoints.ensure_base(db).id
    for i in range(n):
        question = f"What is behind door {i}?"
        conversation = conversations.start_conversation(db, f"person-of-door-{i}", question)
        turn = conversations.add_turn(db, conversation, as_prompt(question))
        left, right = (
            conversations.add_completion(db, turn.id, "student", text=f"{side} {i}: {TORN}", checkpoint_id=base)
            for side in ("A goat", "A car")
        )
        collect.choose(db, f"person-of-door-{i}", left, right, "right" if i % 2 else "left")
    return db


def pairs(rows):
    return sorted((r["prompt"][-1]["content"], r["chosen"][-1]["content"], r["rejected"][-1]["content"]) for r in rows)


def test_the_folder_of_a_data_set_is_read_by_datasets_and_by_what_it_says_to_other_trainers(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "home").mkdir()
    db, folder = rated_home(tmp_path / "home"), tmp_path / "folder"
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path / "home"))
    assert cli.main(["export", "--dataset", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    split = from_feedback(db)
    train, held_out = len(split.train), len(split.held_out)
    assert train and held_out and f"{train + held_out} rows in {folder / 'dpo.jsonl'}" in said
    for name in exports.FORMATS:
        loaded = load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"))["train"]
        assert set(loaded["split"]) == {"train", "held_out"}
    (entry,) = yaml.safe_load((folder / "axolotl.yaml").read_text())["datasets"]
    told = load_dataset("json", data_files=str(folder / entry["path"]), cache_dir=str(tmp_path))["train"]
    assert told.column_names == [entry["field_messages"]] and len(told) == train
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path / "other"))
    assert cli.main(["import", str(folder / "dataset_info.json"), "--dry-run"]) == 0
    assert cli.main(["import", str(folder / "dataset_info.json")]) == 0
    assert "Dry run" in capsys.readouterr().out
    (of_dpo,) = [k.id for k in stored.all(tmp_path / "other" / "kdloop.db") if k.file == "train_dpo.jsonl"]
    exports.export(tmp_path / "other" / "kdloop.db", "dpo", tmp_path / "back.jsonl", of_dpo)
    theirs = [json.loads(line) for line in (folder / "dpo.jsonl").read_text().splitlines()]
    back = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert pairs(back) == pairs(r for r in theirs if r["split"] == "train")
    assert not any("person-of-door" in file.read_text() for file in folder.iterdir())
