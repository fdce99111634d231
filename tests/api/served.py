"""The real page and its routes on a real port, in this process."""

from contextlib import contextmanager
from types import SimpleNamespace

import httpx

from kdloop.api import endpoints, routes
from kdloop.evaluation.bench.app_process import free_port
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui import build, launch
from storage import checkpoints
from storage.database import open_database


@contextmanager
def serving(home, engine, **values):
    """(url, client, settings, supervisor) of an app in this process."""
    port = free_port()
    settings = Settings(home=home, port=port, **{"max_tokens": 12} | values)
    checkpoints.ensure_base(open_database(settings.db))
    model = Serving(settings.db, lambda: engine)
    supervisor = Supervisor(settings, model)
    demo = build(settings, model, supervisor, endpoints.build)
    launch(demo, settings, routes.build(settings, model, supervisor))
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=120) as http:
            yield SimpleNamespace(url=url, http=http, settings=settings, supervisor=supervisor, db=settings.db)
    finally:
        demo.close()
