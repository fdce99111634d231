"""The server that Gradio starts."""

import os
import runpy
import time

import gradio as gr
import httpx
from starlette.responses import Response
from starlette.routing import Route

from kdloop.evaluation.bench.app_process import free_port
from kdloop.settings import Settings
from kdloop.ui import launch


def test_an_app_whose_own_page_takes_seconds_starts(tmp_path):
    """As beside a training on two cores."""

    def late(request):
        time.sleep(4)
        return Response()

    with gr.Blocks() as demo:
        gr.Markdown("Hello")
    settings = Settings(home=tmp_path, port=free_port())
    launch(demo, settings, [Route("/", late, methods=["HEAD"])])
    try:
        assert httpx.get(f"http://127.0.0.1:{settings.port}/healthz").json() == {"ok": True}
    finally:
        demo.close()


def test_gradio_does_not_sum_up_all_events_after_each(monkeypatch):
    monkeypatch.delenv("GRADIO_ANALYTICS_CACHE_FREQUENCY", raising=False)
    runpy.run_path("app.py")
    assert int(os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"]) > 10_000
