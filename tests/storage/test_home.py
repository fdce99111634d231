"""Two apps on one home: the second refuses, however the first one ended before."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import app
from kdloop import __main__ as cli
from storage.database import UnusableHome
from storage.home import LOCK, OccupiedHome, occupy

ROOT = Path(__file__).parents[2]
OCCUPY = "import sys; from pathlib import Path; from storage.home import occupy; occupy(Path(sys.argv[1])); {}"
WAIT = "print('there', flush=True); sys.stdin.read()"


@contextmanager
def occupied(home, then=WAIT):
    """A process that has taken the home and waits to be killed."""
    command = [sys.executable, "-c", OCCUPY.format(then), str(home)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def test_a_home_that_another_process_has_is_refused_until_that_one_is_killed(tmp_path):
    home = tmp_path / "not there yet" / "home"
    with occupied(home) as first:
        with pytest.raises(OccupiedHome, match=f"process {first.pid}.*KDLOOP_HOME"):
            occupy(home)
        first.send_signal(signal.SIGKILL)
        first.wait()
        occupy(home)
    occupy(home)  # it is this process's own


def test_who_has_patience_gets_the_home_of_one_that_ends_meanwhile(tmp_path):
    with occupied(tmp_path, "print('there', flush=True); import time; time.sleep(2)"):
        occupy(tmp_path, patience=120)


def test_a_process_that_the_app_has_forked_does_not_keep_the_home(tmp_path):
    """As the workers of a ZeroGPU Space, which may outlive their app."""
    fork = "import os, time; id = os.fork(); print('there', flush=True) if id else time.sleep(600); sys.stdin.read()"
    with occupied(tmp_path, fork) as parent:
        child = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())
        parent.kill()
        parent.wait()
        try:
            os.kill(child, 0)
            occupy(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_home_in_which_no_file_can_be_written_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "home" / LOCK).mkdir(parents=True)
    for home in (tmp_path / "file", tmp_path / "home"):
        with pytest.raises(UnusableHome, match="KDLOOP_HOME"):
            occupy(home)


def test_the_app_and_a_restore_say_so_and_touch_nothing(tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    monkeypatch.setenv("KDLOOP_HOME", str(home))
    with occupied(home) as first:
        assert app.main() == 1
        with pytest.raises(SystemExit):
            cli.main(["restore", "elsewhere"])
    said = f"Another kdloop uses {home} (process {first.pid})"
    assert capsys.readouterr().err.count(said) == 2 and [file.name for file in home.iterdir()] == [LOCK]
