"""One rule for every setting and every command: a flag, else the variable, else the page, else the default."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import app
from kdloop import __main__ as cli
from kdloop import recipes, settings
from kdloop.knowledge.passages import passages_in
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import NAMES, SETTABLE, Settings, change, current, flag, flags_are, kind, variable
from kdloop.student.engines import open_engine
from kdloop.ui import choices as panel
from storage import checkpoints, conversations
from storage.conversations import as_prompt
from storage.database import open_database

ROOT = Path(__file__).parent.parent
TEXTS = {int: ("7", "9"), float: ("0.25", "0.5"), bool: ("yes", "no"), str: ("auto", "kto")}
NEEDED = {  # what a command cannot do without
    "simulate": ["--rater", "kdloop/evaluation/example_raters.py:concise"],
    "measure": ["--pack", "sums"],
    "pack": ["list"],
    "export": ["--out", "x.jsonl"],
    "adapter": ["--out", "x"],
    "backup": ["somewhere"],
    "restore": ["somewhere"],
    "key": ["list"],
    "open_webui": ["http://x", "--key-file", "x"],
}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No variable of the caller's, and a directory of one's own."""
    for name in [name for name in os.environ if "KDLOOP_" in name or name == "SYSTEM"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def texts(name):
    if name == "home":
        return "of the variable", "of the flag"
    if name in settings.OPTIONS:
        return settings.OPTIONS[name][::-1][:2]
    return TEXTS[kind(name)]


def value(name, text):
    return Path(text).resolve() if name == "home" else settings.CONVERTERS[kind(name)](name, text)


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_wins_over_the_default_and_an_empty_one_is_none(name, monkeypatch):
    default, (text, _) = getattr(Settings.from_environment(), name), texts(name)
    for nothing in ("", "  ", "\r\n"):
        monkeypatch.setenv(variable(name), nothing)
        assert getattr(Settings.from_environment(), name) == default
    monkeypatch.setenv(variable(name), f"{text}\r")
    assert getattr(Settings.from_environment(), name) == value(name, text) != default or text == str(default)


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_a_flag_wins_over_the_variable_in_every_command(command, monkeypatch):
    """Every setting at once. What each command finds: Settings.from_environment is what all of them ask."""
    seen = []
    monkeypatch.setitem(cli.COMMANDS, command, lambda args: seen.append(Settings.from_environment()) or 0)
    by_variable, by_flag = ({name: texts(name)[i] for name in SETTABLE} for i in (0, 1))
    for name, text in by_variable.items():
        monkeypatch.setenv(variable(name), text)
    asked = [command, *NEEDED.get(command, [])]
    assert cli.main(asked) == 0
    assert cli.main([*asked, *(part for name, text in by_flag.items() for part in (flag(name), text))]) == 0
    assert cli.main([*asked, *(f"{flag(name)}={text}" for name, text in by_flag.items())]) == 0
    for name in SETTABLE:
        wanted = [value(name, by_variable[name]), value(name, by_flag[name]), value(name, by_flag[name])]
        assert [getattr(s, name) for s in seen] == wanted, name
    assert settings.FLAGS == {}


@pytest.mark.parametrize("table", cli.TABLES)
def test_a_flag_wins_in_every_table_of_bench_too(table, monkeypatch):
    seen = []
    module = cli.import_module(f"kdloop.evaluation.bench.{table}")
    monkeypatch.setattr(module, "main", lambda argv: seen.append((argv, Settings.from_environment())))
    monkeypatch.setenv("KDLOOP_HOME", "of the variable")
    assert cli.main(["bench", table, "--max-tokens", "5", "--home", "of the flag"]) == 0
    ((argv, found),) = seen
    assert argv == ["--max-tokens", "5"] and found.home == Path("of the flag").resolve()


@pytest.mark.parametrize("name", sorted(settings.CHANGEABLE))
def test_a_flag_wins_over_the_page_too(name, db):
    other = {int: (100, 101), float: (1.0, 60.0), str: ("by the owner", "by another one")}[kind(name)]
    words = {"promotion": ("judge", "trial"), "hindsight": ("off", "on")}
    by_owner, later = ({"delegate_below": (0.125, 0.75)} | words).get(name, other)
    change(Settings(home=db.parent), {name: by_owner}, "ann")
    with flags_are({"home": str(db.parent), name: texts(name)[1]}):
        started = Settings.from_environment()
    assert getattr(current(started), name) == value(name, texts(name)[1])
    shown = panel.field(started, name, 1 if kind(name) is not str else "")
    assert not shown.interactive and flag(name) in shown.info
    with pytest.raises(ValueError, match=f"{flag(name)} is set with the app's start"):
        change(started, {name: later}, "ann")


WRONG = {
    "port": ["seven", "70000", "-1", "7860.5", "nan"],
    "round_votes": ["many", "3.5", "-3"],
    "gate_prompts": ["0"],
    "idle_minutes": ["soon", "nan", "inf", "-1"],
    "delegate_below": ["1.5", "half"],
    "engine_at_once": ["0"],
    "max_tokens": ["0", "99999999999999999999x"],
    "home": ["~nobody-is-called-so/kd"],
    "oauth": ["perhaps"],
    "zero_gpu": ["2"],
    "student": ["s" * 300],
    "teachers": ["~nobody-is-called-so/t.toml", "t" * 300],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in WRONG.items() for t in texts])
def test_a_bad_value_is_named_with_its_variable_or_its_flag(name, text, monkeypatch, capsys):
    if name in SETTABLE:
        with pytest.raises(SystemExit) as ended:
            cli.main(["doctor", f"{flag(name)}={text}"])
        assert ended.value.code == 2 and f"{flag(name)}={text!r}" in capsys.readouterr().err
    monkeypatch.setenv(variable(name), text)
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor"])
    assert ended.value.code == 2 and f"{variable(name)}={text!r}" in capsys.readouterr().err
    assert app.main() == 1 and f"kdloop cannot start. {variable(name)}={text!r}" in capsys.readouterr().err


@pytest.mark.parametrize("name", settings.PATH_SETTINGS)
def test_a_place_may_begin_with_a_tilde_or_a_dot(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for text, wanted in (("~/a place", tmp_path / "me" / "a place"), ("./here", tmp_path / "here")):
        monkeypatch.setenv(variable(name), text)
        assert str(getattr(Settings.from_environment(), name)) == str(wanted)
        monkeypatch.delenv(variable(name))
        with flags_are({name: text}):
            assert str(getattr(Settings.from_environment(), name)) == str(wanted)


def test_names_of_the_hub_are_no_places(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLOOP_STUDENT", "org/name")
    monkeypatch.setenv("KDLOOP_SNAPSHOTS", "hf://datasets/ann/data")
    monkeypatch.setenv("KDLOOP_TEACHER_MODELS", "org/one,~/two")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = Settings.from_environment()
    assert (found.student, found.snapshots) == ("org/name", "hf://datasets/ann/data")
    assert found.teacher_models == f"org/one,{tmp_path}/two"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert Settings.from_environment().student == str(tmp_path / "org" / "name"), "wherever its process stands"


def test_a_mark_before_the_first_line_of_an_env_file_is_no_part_of_its_name(monkeypatch):
    monkeypatch.setenv("\ufeffKDLOOP_PORT", "8123")
    monkeypatch.setenv("KDLOOP_HOST", "\ufeff0.0.0.0")
    assert (Settings.from_environment().port, Settings.from_environment().host) == (8123, "0.0.0.0")


def test_what_is_told_to_a_child_is_what_it_reads(monkeypatch, tmp_path):
    told = Settings.from_environment(home=tmp_path, round_votes=3, bake="User: a\nAssistant: b", oauth=True)
    for name, text in told.as_environment().items():
        monkeypatch.setenv(name, text)
    assert Settings.from_environment() == told


def test_simulate_asks_for_a_home_of_its_own_by_flag_or_variable(capsys, monkeypatch, tmp_path):
    rater = ["simulate", "--rater", "nowhere.py:rate"]
    with pytest.raises(SystemExit):
        cli.main(rater)
    assert "give --home" in capsys.readouterr().err
    for more in (["--home", "x"], []):
        with pytest.raises(SystemExit):
            cli.main([*rater, *more])
        assert "with an existing file" in capsys.readouterr().err
        monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["export", "--out", "missing/rows.jsonl"], "missing"),
        (["export", "--out", ""], "--out"),
        (["backup", "snaps"], "no database"),
        (["backup", " "], "target is empty"),
        (["restore", ""], "target is empty"),
        (["doctor", "--engine", "steam"], "there are: transformers"),
        (["adapter", "--out", "x", "--version", "7"], "v7 has no adapter"),
        (["round", "--method", "alchemy"], "alchemy"),
        (["round", "--recipe", "alchemy"], "alchemy"),
        (["round", "--times", "0"], "--times"),
        (["doctor", "--home", "a file"], "a file"),
        (["export", "--out", "rows.jsonl", "--home", "a file"], "KDLOOP_HOME"),
    ],
)
def test_what_a_command_cannot_do_is_a_sentence(argv, said, capsys, monkeypatch, tiny_student, tmp_path):
    monkeypatch.setenv("KDLOOP_STUDENT", tiny_student)
    (tmp_path / "a file").write_text("x")
    if argv[:2] == ["doctor", "--home"]:
        assert cli.main(argv) == 0 and said in capsys.readouterr().out
        return
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and said in told.splitlines()[-1] and "Traceback" not in told
    assert argv[0] != "backup" or not Path("data").exists(), "an empty database would keep a start from restoring"


@pytest.mark.parametrize("theirs", [None, "/opt/mine", f"/opt/mine{os.pathsep}/opt/more"])
def test_children_keep_the_callers_modules_and_find_ours(theirs, monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if theirs:
        monkeypatch.setenv("PYTHONPATH", theirs)
    config = Settings(home=tmp_path)
    checkpoints.ensure_base(open_database(config.db))

    class Telling(Supervisor):
        def command(self, round):
            return [sys.executable, "-c", "import os, kdloop; print(os.environ['PYTHONPATH'])"]

    supervisor = Telling(config)
    supervisor.start()
    supervisor.wait()
    told = (tmp_path / "rounds" / "000001" / "trainer.log").read_text().strip()
    assert told == os.pathsep.join(filter(None, [str(ROOT), theirs]))


def test_a_module_of_the_caller_is_there_in_the_trainer_and_kdloop_wherever_it_is_started(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "callers_own.py").write_text("said = 'here'")
    code = "import sys; sys.path[:0] = [sys.argv[1]]; from kdloop.settings import of_child; import subprocess; "
    code += "run = [sys.executable, '-c', 'import callers_own, kdloop.rounds.trainer; print(callers_own.said)']; "
    code += "subprocess.run(run, env=of_child(), check=True)"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "mine")},
        capture_output=True,
        text=True,
    )
    assert ended.stdout == "here\n", ended.stderr


def test_files_that_people_write_may_begin_with_a_mark(tmp_path, monkeypatch):
    mark = b"\xef\xbb\xbf"
    (tmp_path / "mine.toml").write_bytes(mark + b'about = "mine"\r\nmethod = "sft"\r\n')
    assert recipes.load(str(tmp_path / "mine.toml")).method == "sft"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_bytes(mark + b"The tower has four bells.")
    assert passages_in(None, str(tmp_path / "notes")) == {"a.txt#0": "The tower has four bells."}
    (tmp_path / "key").write_bytes(mark + b"sk-1\r\n")
    engine = Settings(
        home=tmp_path, engine="openai", engine_url="http://127.0.0.1:9/v1", engine_key_file=f"{tmp_path}/key"
    )
    with pytest.raises(ValueError, match="does not answer"):  # a key with a mark could not even be sent
        open_engine(engine)


def test_a_method_of_the_environment_is_what_a_round_by_hand_asks_for_and_a_recipe_names_its_own(monkeypatch, db):
    asked = []

    class Asked(Supervisor):
        def start(self, requested="auto", **values):
            asked.append(requested)
            raise ValueError("asked")

    monkeypatch.setattr("kdloop.rounds.supervisor.Supervisor", Asked)
    monkeypatch.setenv("KDLOOP_HOME", str(db.parent))
    monkeypatch.setenv("KDLOOP_METHOD", "kto")
    for argv in ([], ["--method", "dpo"], ["--recipe", "rejection"], ["--recipe", "rejection", "--method", "dpo"]):
        with pytest.raises(SystemExit):
            cli.main(["round", *argv])
    assert asked == ["kto", "dpo", "auto", "dpo"]


def test_an_empty_file_of_an_interrupted_start_does_not_keep_the_snapshot_away(db, tmp_path, monkeypatch):
    conversations.add_turn(db, conversations.start_conversation(db, "ann", "kept"), as_prompt("hi"))
    config = Settings(home=tmp_path / "new", snapshots=str(tmp_path / "snaps"))
    app.snapshots.take(db, app.snapshots.open_target(config.snapshots))
    config.home.mkdir()
    config.db.touch()
    app.restore(config)
    assert [title for _, title in conversations.find_conversations(config.db, "ann")] == ["kept"]
