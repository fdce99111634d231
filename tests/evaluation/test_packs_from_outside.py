"""Packs of one's own: made, checked, installed from a folder and a wheel, removed again; bad ones change nothing."""

import json
import os
import zipfile

import huggingface_hub.constants
import pytest
from hub import Repo, serving

from kdloop import packs, recipes
from kdloop.__main__ import main
from kdloop.evaluation import pack_check, pack_install, pack_new, pack_remove
from kdloop.feedback.examples import Split
from kdloop.knowledge.passages import passages_in
from kdloop.packs import patterns
from kdloop.raters import verifiers
from kdloop.raters.features import embed
from kdloop.rounds import tasks as asked
from kdloop.settings import Settings

CAPITALS = {"Peru": "Lima", "Kenya": "Nairobi", "Norway": "Oslo", "Japan": "Tokyo", "Chad": "N'Djamena"}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def written(folder, toml='about = "a"\nlicence = "mit"\norigin = "o"\n', **parts):
    """A pack's folder with these rows."""
    folder.mkdir(parents=True)
    (folder / "pack.toml").write_text(toml)
    for part, rows in parts.items():
        (folder / f"{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def rows(*prompts):
    return [{"prompt": p} for p in prompts]


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_pack_in_the_home_is_found_wherever_packs_are_used(tmp_path, home):
    toml = 'licence = "mit"\nchecks = [{ check = "label", options = ["yes", "no"] }]\n'
    lines = [{"prompt": f"Is {i} even?", "answer": ("yes", "no")[i % 2], "group": str(i // 2)} for i in range(9)]
    folder = written(tmp_path / "even", toml, train=lines[:5], gate=lines[5:7], heldout=lines[7:])
    (folder / "documents").mkdir()
    (folder / "documents" / "a.txt").write_text("Even numbers end in 0, 2, 4, 6 or 8.")
    (folder / "setup.py").write_text("raise SystemExit")
    assert pack_install.install(str(folder)).folder == home / "packs" / "even"
    assert [t.group for t in packs.tasks("even", "heldout")] == ["3", "4"]
    assert "even" in packs.names() and "setup.py" not in files_of(home / "packs" / "even")
    recipe = recipes.from_dict({"name": "mine", "pack": "even", "prompts": 3})
    assert len(asked.training_tasks(recipe, Split([], []), 1)) == 3 and len(asked.gate_tasks("even")) == 2
    assert packs.normal("Is 8 even?") in packs.held_out("general", "even") and "verified@even" in recipes.offered()
    (tmp_path / "mine.toml").write_text('pack = "even"\n')
    assert recipes.load(str(tmp_path / "mine.toml")).pack == "even"
    context = type("Context", (), {"pack": packs.load("even")})
    assert list(passages_in(context, "")) == ["a.txt#0"]
    with (home / "packs" / "even" / "train.jsonl").open("a") as more:
        more.write('{"prompt": "Is 10 even?", "answer": "yes"}\n')
    assert len(packs.tasks("even", "train")) == 6, "a changed file is read again"


def test_a_removed_pack_leaves_rounds_and_held_out_prompts_of_others_alone(tmp_path):
    pack_install.install(str(written(tmp_path / "gone", gate=rows("Who?"), heldout=rows("Where?"))))
    line = [type("Round", (), {"recipe": {"pack": "gone"}}), type("Round", (), {"recipe": {"pack": "sums"}})]
    recipe, before = recipes.from_dict({"name": "r"}), packs.held_out("general")
    assert packs.held_out("general", "gone") == before | {"where?", "who?"}
    assert not pack_remove.remove("gone")
    assert packs.held_out("general", "gone") == before
    assert asked.learned_tasks(line, recipe) == asked.gate_tasks("sums")
    with pytest.raises(ValueError, match="No pack 'gone'; there are"):
        packs.load("gone")


def test_what_was_replaced_comes_back_one_by_one(tmp_path, home):
    for i in range(3):
        pack_install.install(str(written(tmp_path / str(i), train=rows(f"Version {i}?"))), name="mine")
    back = []
    for _ in range(2):
        back.append(pack_remove.remove("mine"))
        back.append(packs.prompts("mine", "train"))
    assert back == [True, ["Version 1?"], True, ["Version 0?"]]
    assert not pack_remove.remove("mine") and files_of(home / "packs") == {}
    with pytest.raises(ValueError, match="No pack 'mine' is installed; there are none"):
        pack_remove.remove("mine")


def test_a_wheel_s_pack_is_installed_and_nothing_beside_it(tmp_path, home):
    source, wheel = written(tmp_path / "birds", train=rows("Which bird is that?")), tmp_path / "birds-1.0-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in source.iterdir():
            archive.write(path, f"some_birds/data/birds/{path.name}")
        archive.writestr("some_birds/data/birds/../../../evil.txt", "x")
        archive.writestr("some_birds/data/birds/documents/../../evil.txt", "x")
        archive.writestr("some_birds/__init__.py", "raise SystemExit")
    pack_install.install(str(wheel))
    assert set(files_of(home)) == {"packs/birds/pack.toml", "packs/birds/train.jsonl"}
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("other/pack.toml", "")
    for bad in (wheel, source / "train.jsonl"):
        with pytest.raises(ValueError, match=r"should hold one pack.toml|cannot be unpacked"):
            pack_install.install(str(bad), name="other")
    assert packs.installed() == ["birds"]


def test_a_data_set_of_the_hub_gives_a_pack_s_files_alone(tmp_path, home, monkeypatch):
    source, repo = written(tmp_path / "x", train=rows("Which moth is that?"), heldout=rows("And which this?")), Repo()
    (source / "documents").mkdir()
    (source / "documents" / "moths of the north.txt").write_text("Some are grey.")
    (source / "loader.py").write_text("raise SystemExit")
    repo.commits.append({str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*") if p.is_file()})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serving(repo) as url:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        assert pack_install.install("hf://datasets/ann/Moths").name == "moths"
        got = files_of(home / "packs" / "moths")
        assert set(got) == {"pack.toml", "train.jsonl", "heldout.jsonl", "documents/moths of the north.txt"}
        assert got["train.jsonl"] == (source / "train.jsonl").read_bytes()
        repo.commits.append({"data.parquet": b"x"})
        with pytest.raises(ValueError, match=r"ann/moths has no pack.toml: `pack new NAME --from ann/moths`"):
            pack_install.install("ann/moths")
        repo.answers = (404, "RepoNotFound")
        with pytest.raises(ValueError, match="The Hub does not give ann/other"):
            pack_install.install("ann/other")
    assert packs.installed() == ["moths"]


def test_what_a_killed_install_left_behind_is_swept_and_no_pack(tmp_path, home):
    left = written(home / "packs" / "half.999999-1.partial", train=rows("a?"))
    written(home / "packs" / "Not A Name", train=rows("a?"))
    assert packs.installed() == []
    pack_install.install(str(written(tmp_path / "whole", train=rows("a?"))))
    assert packs.installed() == ["whole"] and not left.exists()


BAD_FILES = {  # file -> (text, what the refusal names)
    "an unknown field": ("pack.toml", 'licence = "mit"\ncheks = []\n', r"pack.toml, cheks: there is no such field"),
    "a text for a list": ("pack.toml", 'topics = "tax"\n', r"pack.toml, topics: a list of texts is wanted, not a text"),
    "a number in a list": ("pack.toml", "topics = [1]\n", r"topics: a list of texts is wanted, not a list of a number"),
    "true for a number": ("pack.toml", "max_tokens = true\n", r"max_tokens: a whole number is wanted, not true or"),
    "no tokens": ("pack.toml", "max_tokens = 0\n", r"max_tokens: from 1 to 10000"),
    "no TOML": ("pack.toml", "licence = mit\n", r"pack.toml: not TOML"),
    "an unknown check": ("pack.toml", 'checks = [{ check = "lable" }]\n', r"checks 1: there is no check 'lable'"),
    "an unknown option": ("pack.toml", 'checks = [{ check = "words", max = 3 }]\n', r"words has no option 'max'"),
    "a missing option": ("pack.toml", 'checks = [{ check = "regex" }]\n', r"regex needs 'pattern'"),
    "another type": ("pack.toml", 'checks = [{ check = "words", most = "3" }]\n', r"words's most = '3'"),
    "a huge source": (
        "pack.toml",
        '[source]\ndataset = "basic_arithmetic"\nsize = 999999\n',
        r"source.size: from 1 to",
    ),
    "an endless option": (
        "pack.toml",
        '[source]\ndataset = "basic_arithmetic"\noptions = { max_digits = 99999999 }\n',
        r"source.options.max_digits: texts and numbers up to 1000",
    ),
    "a template without a place": (
        "pack.toml",
        '[fresh]\ntemplates = ["{0.__class__}"]\nsubjects = ["x"]\n',
        r"fresh.templates: .* needs one \{\}",
    ),
    "no JSON": ("gate.jsonl", '{"prompt": "a"}\n{"prompt": \n', r"gate.jsonl, line 2: not JSON"),
    "a list": ("gate.jsonl", '["a"]\n', r"gate.jsonl, line 1: an object is wanted"),
    "no prompt": ("gate.jsonl", '\n{"answer": "a"}\n', r"gate.jsonl, line 2, prompt: is missing|there is no prompt"),
    "an empty prompt": ("gate.jsonl", '{"prompt": " "}\n', r"gate.jsonl, line 1, prompt: is empty"),
    "a number for a text": ("gate.jsonl", '{"prompt": "a", "answer": 4}\n', r"answer: a text is wanted, not a number"),
    "a misspelt field": ("gate.jsonl", '{"prompt": "a", "check": []}\n', r"line 1, check: there is no such field"),
    "a nameless check": ("gate.jsonl", '{"prompt": "a", "checks": [{}]}\n', r"checks 1: its \"check\" names one"),
    "deep nesting": ("gate.jsonl", "[" * 50_000 + "\n", r"gate.jsonl, line 1: not JSON"),
    "an answer without a number": (
        "gate.jsonl",
        '{"prompt": "a", "answer": "four", "checks": [{"check": "final_number"}]}\n',
        r"gate.jsonl, line 1, checks 1: The answer 'four' is not one number",
    ),
    "half a character": ("gate.jsonl", '{"prompt": "a \\ud800"}\n', r"gate.jsonl, line 1: holds a zero byte, or half"),
    "a zero byte": ("gate.jsonl", '{"prompt": "a", "answer": "\\u0000"}\n', r"gate.jsonl, line 1: holds a zero byte"),
    "no such generator": (
        "pack.toml",
        '[source]\ngenerator = "poems"\n',
        r"No generator 'poems'; there are boundaries",
    ),
    "no such data set": ("pack.toml", '[source]\ndataset = "poems"\n', r"reasoning-gym does not make this source"),
    "two sources": ("pack.toml", '[source]\ndataset = "a"\ngenerator = "b"\n', r"name either a dataset"),
    "a pattern without an end": (
        "gate.jsonl",
        json.dumps({"prompt": "a", "checks": [{"check": "regex", "pattern": "(?:a{90000000000}){2, 90000000000}"}]}),
        r"gate.jsonl, line 1, checks 1: The pattern .* is too large",
    ),
    "no regular expression": (
        "gate.jsonl",
        '{"prompt": "a", "checks": [{"check": "regex", "pattern": "("}]}\n',
        r"is no regular expression",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_wrong_is_named_by_file_line_and_field_and_nothing_is_installed(case, tmp_path, home):
    name, text, said = BAD_FILES[case]
    folder = written(tmp_path / "bad", train=rows("a?"))
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        pack_install.install(str(folder))
    assert files_of(tmp_path / "home") == {} and packs.installed() == []


def test_links_other_packs_names_and_paths_as_names_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"prompt": "the secret"}\n')
    folder = written(tmp_path / "linked", train=rows("a?"))
    (folder / "gate.jsonl").symlink_to(secret)
    good = written(tmp_path / "good", train=rows("a?"))
    for source, name, said in (
        (folder, "linked", "is a link"),
        (good, "sums", "comes with kdloop"),
        (good, "../up", "no pack's name"),
        (good, "Upper", "no pack's name"),
        (good, ".before", "no pack's name"),
        (tmp_path, "empty", "has no pack.toml"),
        (tmp_path / "not there", "x", "is no folder, no file"),
    ):
        with pytest.raises(ValueError, match=said):
            pack_install.install(str(source), name=name)
    assert packs.installed() == []


ARCHIVES = {  # what an archive holds or is -> what its refusal says
    "a link": "birds.zip: train.jsonl is a link",
    "a large file": r"train.jsonl is of \d+ bytes; at most 40",
    "many files": "birds.zip holds 12 files; at most 11",
    "a large archive": "birds.zip is of more than 0 MB",
    "half of it": "birds.zip cannot be unpacked",
    "no pack": "birds.zip should hold one pack.toml; it holds none",
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_of_what_is_no_pack_s_is_refused_and_leaves_nothing(case, tmp_path, home, monkeypatch):
    sent, line = tmp_path / "birds.zip", zipfile.ZipInfo("birds/train.jsonl")
    line.external_attr = (0o120777 if case == "a link" else 0o100644) << 16
    with zipfile.ZipFile(sent, "w") as archive:
        archive.writestr("birds/pack.toml" if case != "no pack" else "birds/bag.toml", 'licence = "mit"\n')
        archive.writestr(line, '{"prompt": "Which bird sings at night in May?"}\n')
        for i in range(10):
            archive.writestr(f"birds/pictures/{i}.svg", "<svg/>")
    if case == "half of it":
        sent.write_bytes(sent.read_bytes()[:200])
    for of, name, limit in (
        ("a large file", "MAX_FILE", 40),
        ("many files", "MAX_MEMBERS", 11),
        ("a large archive", "MAX_PACK", 99),
    ):
        if case == of:
            monkeypatch.setattr(pack_install, name, limit)
    with pytest.raises(ValueError, match=f"^{ARCHIVES[case]}"):
        pack_new.uploaded(sent, "", "", "", "")
    assert files_of(home) == {}


def test_what_was_sent_becomes_a_pack_as_by_the_commands(tmp_path, home):
    table, whole = tmp_path / "sent" / "capitals.csv", tmp_path / "sent" / "birds.zip"
    table.parent.mkdir()
    table.write_text("question,answer\n" + "".join(f"Capital of {k}?,{v}\n" for k, v in CAPITALS.items()))
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("pack.toml", 'licence = "mit"\n')
        archive.writestr("train.jsonl", '{"prompt": "Which bird is that?"}\n')
        archive.writestr("../../evil.jsonl", "{}")
    said = 'Capitals "of" 😀 states.', "Borders change."
    assert pack_new.uploaded(table, "capitals", "mit", *said).folder == home / "packs" / "capitals"
    made = packs.load("capitals")
    assert (made.about, made.disclaimer, made.licence, made.origin) == (*said, "mit", "capitals.csv")
    assert pack_new.uploaded(whole, "", "", "", "").name == "birds"
    assert {p.name for p in tmp_path.iterdir()} == {"home", "sent"}
    (table.parent / "bad.csv").write_bytes(b"question,answer\nWho?,\xff\n")
    before = files_of(home)
    for file, name, licence, refusal in (
        (table, "other", "", "Say under which licence"),
        (table, "", "mit", "'' is no pack's name"),
        (table, "sums", "mit", "comes with kdloop"),
        (table, "capitals", "mit", "is installed"),
        (whole, "", "mit", "A whole pack's pack.toml says its licence"),
        (table.parent / "bad.csv", "other", "mit", "bad.csv is no text in UTF-8"),
    ):
        with pytest.raises(ValueError, match=refusal) as told:
            pack_new.uploaded(file, name, licence, "", "")
        assert str(file.parent) not in str(told.value)
    assert files_of(home) == before


def test_a_pack_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    folder = written(tmp_path / "large", train=rows("a?"))
    with (folder / "heldout.jsonl").open("wb") as file:
        os.truncate(file.fileno(), pack_install.MAX_FILE + 1)
    with pytest.raises(ValueError, match=r"heldout.jsonl is of \d+ bytes; at most"):
        pack_install.install(str(folder))


def test_a_new_pack_is_split_by_its_words_and_says_what_it_is_checked_by(tmp_path, home):
    table = tmp_path / "capitals.csv"
    table.write_text("question,answer,id\n" + "".join(f"Capital of {k}?,{v},7\n" for k, v in CAPITALS.items()))
    counts = pack_new.new("capitals", str(table), licence="cc0-1.0")
    tasks = {part: packs.tasks("capitals", part) for part in packs.PARTS}
    assert {part: len(own) for part, own in tasks.items()} == counts and sum(counts.values()) == len(CAPITALS)
    assert {t.answer for own in tasks.values() for t in own} == set(CAPITALS.values())
    assert packs.load("capitals").checks == ({"check": "ends_with_answer"},)
    twice = tmp_path / "twice.jsonl"
    prompts = [w for i in range(40) for w in (f"How many, {i}?", f"how many {i}", f"How many - {i}!")]
    twice.write_text("".join(json.dumps({"prompt": p, "answer": 3}) + "\n" for p in prompts))
    assert sum(pack_new.new("numbers", str(twice)).values()) == 80, "40 prompts in two wordings are 40"
    assert packs.load("numbers").checks == ({"check": "number"},)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([{"text": f"Text {i}", "label": "ham" if i % 3 else "spam"} for i in range(30)]))
    pack_new.new("mail", str(labels))
    assert packs.load("mail").checks == ({"check": "label", "options": ["ham", "spam"]},)
    with pytest.raises(ValueError, match="is installed"):
        pack_new.new("mail", str(labels))
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": 3.5e999}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2"):
        pack_new.new("bad", str(tmp_path / "bad.jsonl"))
    assert "bad" not in packs.names()


def found(report, part=""):
    return [f"{f.where}: {f.said}" for f in report.found if f.fails and part in f.where]


def test_a_check_finds_leaks_of_every_kind_and_what_is_missing(tmp_path):
    held = rows(
        "How do bees find their way back to the hive?", "Why is the sky blue?", "Name a fruit.", "What is 3 + 8?"
    )
    train = rows(
        "How do bees find their way home to the hive?",
        "why is the sky BLUE",
        "Name a fruit.",
        "What is 8 + 3?",
        "Hello?",
    )
    pack_install.install(str(written(tmp_path / "leaky", 'about = "a"\n', train=[*train, train[-1]], heldout=held)))
    report = pack_check.check("leaky", embed)
    said = "\n".join(found(report))
    for part in (
        "no licence",
        "no origin",
        "leak: 'Name a fruit.', the same prompt in heldout",
        "leak: 'why is the sky BLUE', but for case",
        "twice: 'Hello?'",
        "'How do bees find their way home to the hive?', 'How do bees find their way back to the hive?' in heldout",
        "'What is 8 + 3?', 'What is 3 + 8?' in heldout",
    ):
        assert part in said, (part, said)
    assert len(found(report)) == 7 and not report.sound and "FAILS | train.jsonl | twice" in pack_check.table(report)


def test_other_numbers_signs_and_answers_are_other_tasks(tmp_path):
    sums = [(a, sign, b) for a in range(7, 12) for sign in "+-" for b in range(7)]
    lines = [{"prompt": f"What is {a} {s} {b}?", "answer": str(eval(f"{a}{s}{b}"))} for a, s, b in sums]
    toml = 'about = "a"\nlicence = "mit"\norigin = "o"\nchecks = [{ check = "final_number" }]\n'
    pack_install.install(str(written(tmp_path / "few", toml, train=lines[::2], heldout=lines[1::2])))
    report = pack_check.check("few", embed)
    assert report.sound, pack_check.table(report)
    assert report.passed["heldout"]["the reference answer"] == 1


WEAK = {  # checks, answers -> what is found
    "anything": ([{"check": "avoids", "words": ["damn"]}], ["Fine."] * 6, "an unrelated sentence passes 100%"),
    "two of them": ([{"check": "contains", "words": ["red"]}], ["red", "blue"] * 3, "50% of the reference"),
    "the majority": ([{"check": "label", "options": ["a", "b"]}], ["a"] * 5 + ["b"], "the majority answer passes 83%"),
    "all options": ([{"check": "regex", "pattern": "red|blue"}], ["red", "blue"] * 3, "all options passes 100%"),
    "nothing passes": ([{"check": "exact"}, {"check": "words", "least": 9}], ["red", "blue"] * 3, "100% of the"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEAK)
def test_checks_that_need_no_skill_are_found(case, tmp_path):
    checks, answers, said = WEAK[case]
    lines = [{"prompt": f"Which colour has thing {i}?", "answer": a, "checks": checks} for i, a in enumerate(answers)]
    pack_install.install(str(written(tmp_path / "weak", heldout=lines)))
    report = pack_check.check("weak", None)
    assert said in "\n".join(found(report)), pack_check.table(report)


def test_a_pattern_that_would_not_come_to_an_end_fails_its_task_alone(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.2)
    evil, text = {"check": "regex", "pattern": "^(a|aa)*$"}, "a" * 60 + "!"
    finding = verifiers.find(evil, text, "")
    assert finding.score == 0 and "takes longer" in finding.reason
    assert verifiers.find(evil | {"absent": True}, text, "").score == 0


def test_the_commands_say_what_they_did_and_leave_by_the_code(tmp_path, capsys):
    assert main(["pack", "new", "mine", "--home", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "packs" / "mine" / "pack.toml").exists() and packs.installed() == []
    assert main(["pack", "new", "mine"]) == 0 and main(["pack", "list"]) == 0
    assert "mine (home): train" in capsys.readouterr().out
    assert main(["pack", "check", "mine", "--quick"]) == 0, capsys.readouterr().out
    written(tmp_path / "bare", "", train=rows("a?"))
    assert main(["pack", "install", str(tmp_path / "bare")]) == 0 and main(["pack", "check", "bare", "--quick"]) == 1
    assert "FAILS | pack.toml | no licence | say under which" in capsys.readouterr().out
    assert main(["pack", "remove", "bare"]) == 0 and packs.installed() == ["mine"]
    with pytest.raises(SystemExit, match="2"):
        main(["pack", "remove", "general"])
    assert "comes with kdloop" in capsys.readouterr().err
    assert Settings.from_environment().home.name == "home"
