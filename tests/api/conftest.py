"""The real page and its routes on a real port, with a two-layer student; apps of their own for other settings."""

import socket
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from kdloop.api import endpoints, routes
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.student.transformers import TransformersEngine
from kdloop.ui import build, launch
from storage import checkpoints
from storage.database import open_database


@pytest.fixture(scope="session")
def engine(tiny_student):
    return TransformersEngine(tiny_student)


@contextmanager
def serving(home, engine, **values):
    """(url, client, settings, supervisor) of an app in this process."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
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


@pytest.fixture(scope="module")
def app(tmp_path_factory, engine):
    """On loopback: whoever is at this computer needs no key."""
    with serving(tmp_path_factory.mktemp("api"), engine) as here:
        yield here


@pytest.fixture(scope="module")
def shared(tmp_path_factory, engine):
    """One that others reach: nobody enters without a key."""
    with serving(tmp_path_factory.mktemp("shared"), engine, admin_token="open sesame") as there:
        yield there
