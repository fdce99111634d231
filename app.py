"""Settings -> store -> supervisor -> page. What `make run` and Spaces start."""

import os
import signal
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))  # events: else all are summed up at each
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from kdloop.raters import active
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.base import NoStudent
from kdloop.student.engines import open_engine
from kdloop.student.serving import Serving
from storage import checkpoints, conversations, leftovers, log, snapshots
from storage.database import DatabaseError, NewerDatabase, is_there, open_database
from storage.home import occupy

OVERLAP_SECONDS = 120  # a Space starts its next container while the last one ends
DATA_ERRORS = (NewerDatabase, DatabaseError, snapshots.DamagedSnapshot, snapshots.ForgottenErasure)
CANNOT_START = (ValueError, OSError, NoStudent, *DATA_ERRORS)  # each says in a sentence what to do, or what failed


def main() -> int:
    from kdloop.ui.session import secret

    try:
        settings = Settings.from_environment()
        log.begin(settings.log)
        occupy(settings.home, OVERLAP_SECONDS if settings.space else 0)
        restore(settings)
        open_database(settings.db)
        leftovers.clear(settings.db)
        checkpoints.ensure_base(settings.db)
        conversations.close_open_completions(settings.db)
        secret(settings)
        log.event("starting", f"data in {settings.home}; loading the student", home=settings.home)
        serving = Serving(settings.db, lambda: open_engine(settings))
        serving.know_student()
        serving.current()
    except CANNOT_START as error:
        print(f"kdloop cannot start. {error}", file=sys.stderr)
        return 1
    serve(settings, serving)
    return 0


def restore(settings: Settings) -> None:
    """An empty home gets the latest snapshot. Where nobody can say whether there is one the start fails: an empty app
    would write its own snapshot over it."""
    if settings.snapshots and not is_there(settings.db):
        restored = snapshots.restore(settings.db, snapshots.open_target(settings.snapshots))
        log.event("restored", f"restored {restored}" if restored else "no snapshot yet", snapshot=restored)


def serve(settings: Settings, serving: Serving) -> None:
    from kdloop.api import endpoints, routes
    from kdloop.ui import build, gpu_calls, launch

    if settings.zero_gpu:
        gpu_calls.calls()  # a ZeroGPU Space does not start without a function for its visitors' GPU
    supervisor = Supervisor(settings, serving)
    demo = build(settings, serving, supervisor, endpoints.build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # before the port answers: who asks it may then end the app
    try:
        launch(demo, settings, routes.build(settings, serving, supervisor))
        log.event("started", url=demo.local_url, engine=serving.base.name)
        supervisor.run_in_background()  # after the port answers, and once: launch() runs in one process only
        demo.block_thread()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        supervisor.stop()
        connections = demo.server.server_state.connections if demo.is_running else ()
        for connection in list(connections):  # uvicorn would wait for replies under way
            connection.loop.call_soon_threadsafe(connection.transport.abort)
        demo.close()
        active.wait()
        log.event("ended")


if __name__ == "__main__":
    sys.exit(main())
