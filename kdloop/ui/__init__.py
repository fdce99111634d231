"""The page. One file per tab: layout, handlers that call a domain function, wiring.

Every handler is an endpoint that anyone can call: each checks its own input, takes the person from server-side state,
and never trusts ids or history that the browser posts.
"""

from functools import partial

import gradio as gr

from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.supervisor import Supervisor
from kdloop.ui import admin, api, arena, chat, learning, models, rounds, session, sidebar, teach

CSS = """
.kd-head { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.kd-head p { margin: 0; }
footer { opacity: .7; }
"""


def build(settings: Settings, serving: Serving, supervisor: Supervisor) -> gr.Blocks:
    with gr.Blocks(title="kdloop", delete_cache=(3600, 86400), fill_height=True) as demo:
        who = gr.BrowserState(None, storage_key="kdloop-who", secret="kdloop-public")  # signed, see session.py
        state = gr.State({})
        side = sidebar.build(settings, state)
        gr.Markdown("## kdloop\nChat with a small student. Your ratings are its next lesson.")
        with gr.Tabs() as tabs:
            with gr.Tab("Chat", id="chat"):
                parts = chat.build(settings, serving, supervisor, state)
            with gr.Tab("Arena", id="arena"):
                arena.build(settings, serving, supervisor, state)
            with gr.Tab("Teach", id="teach") as teach_tab:
                lessons = teach.build(settings, state)
            with gr.Tab("Learning", id="learning") as curve_tab:
                curve = learning.build(settings)
            with gr.Tab("Rounds", id="rounds"):
                timer = rounds.build(settings, supervisor, state)
            with gr.Tab("Models", id="models") as models_tab:
                versions = models.build(settings, serving, state)
            with gr.Tab("Admin", id="admin"):
                admin.build(settings, state)
        for tab, parts_of, name in (
            (teach_tab, lessons, "lessons"),
            (curve_tab, curve, "learning"),
            (models_tab, versions, "models"),
        ):
            opened = session.named(parts_of["fill"], name)
            tab.select(opened, parts_of.get("inputs"), parts_of["outputs"], queue=False, **session.PRIVATE)
        api.build(settings, serving, supervisor)
        sidebar.connect(settings, state, side, parts)
        tabs.select(on_tab, None, timer, queue=False, **session.PRIVATE)
        demo.load(None, js=arena.KEYS)
        known = demo.load(session.loader(settings), who, [who, state], queue=False, **session.PRIVATE)
        listed = session.named(partial(sidebar.titles, settings, ""), "titles_at_start")
        known.then(listed, state, side["past"], queue=False, **session.PRIVATE)
    return demo


def on_tab(event: gr.SelectData):
    return gr.Timer(active=event.value == "Rounds")


def launch(demo: gr.Blocks, settings: Settings) -> None:
    demo.queue(max_size=64, default_concurrency_limit=4, api_open=False)
    app, _, _ = demo.launch(
        server_name=settings.host,
        server_port=settings.port,
        prevent_thread_lock=True,
        ssr_mode=False,
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["settings"],
        max_file_size="1mb",
        state_session_capacity=400,
        pwa=False,
        blocked_paths=[str(settings.home)],
        theme=gr.themes.Soft(primary_hue="teal"),
        css=CSS,
    )
    app.get("/healthz")(lambda: {"ok": True})
