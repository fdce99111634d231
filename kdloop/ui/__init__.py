"""The page. One file per tab: layout, wiring, handlers that call a domain function.

Every handler is an endpoint that anyone can call: each checks its own input, takes the person from server-side state,
and never trusts ids or history that the browser posts.

In: settings, the champion, the supervisor. Out: a Gradio page. May import all rooms, of evaluation only
what owners do to packs; never TRL.
"""

from collections.abc import Callable
from functools import partial

import gradio as gr
from starlette.routing import BaseRoute

from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings
from kdloop.student.serving import Serving
from kdloop.ui import (
    admin,
    arena,
    chat,
    consent,
    learning,
    models,
    page,
    plots,
    prose,
    rounds,
    session,
    sidebar,
    teach,
    times,
)
from kdloop.ui.words import built, t

INK, INK_DARK = "*primary_800", "*primary_200"  # Soft's own primary_500 is too pale to read on its tints
THEME = gr.themes.Soft(primary_hue="teal", font=("system-ui", "sans-serif")).set(
    body_background_fill="*neutral_50",
    block_border_width="1px",
    button_secondary_border_color="*neutral_300",
    button_border_width="1px",
    input_border_width="1px",
    **{f"link_text_color{how}": INK for how in ("", "_active", "_hover", "_visited")},
    **{f"link_text_color{how}_dark": INK_DARK for how in ("", "_active", "_hover", "_visited")},
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color=INK,
    block_label_text_color_dark=INK_DARK,
    block_title_text_color=INK,
    block_title_text_color_dark=INK_DARK,
    block_label_background_fill_dark="*primary_900",
    block_title_background_fill_dark="*primary_900",
    **{f"button_cancel_background_fill{how}": "#b91c1c" for how in ("", "_dark")},
    **{f"button_cancel_background_fill_hover{how}": "#991b1b" for how in ("", "_dark")},
    **{f"button_cancel_text_color{how}": "white" for how in ("", "_dark", "_hover", "_hover_dark")},
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
)


def build(settings: Settings, serving: Serving, supervisor: Supervisor, endpoints: Callable) -> gr.Blocks:
    """`endpoints` (settings, serving, supervisor) adds what programs may call, in the page's context."""
    with gr.Blocks(title="kdloop", delete_cache=(3600, 86400), fill_height=True) as demo:  # seconds: hourly, of a day
        who = gr.BrowserState(None, storage_key="kdloop-who", secret="kdloop-public")  # signed, see session.py
        kept = gr.BrowserState(None, storage_key="kdloop-owner", secret="kdloop-public")  # an owner's session, signed
        state = gr.State({})
        side = sidebar.build(settings, state)
        gr.Markdown(t("# kdloop\nChat with a small student. Your ratings are its next lesson."), elem_id="title")
        notice = consent.build(settings)
        with gr.Tabs(overflow_behavior="wrap", elem_id="tabs") as tabs:  # in one row that scrolls, see page.css
            with gr.Tab(t("Chat"), id="chat"):
                parts = chat.build(settings, serving, supervisor, who, state)
            with gr.Tab(t("Arena"), id="arena") as arena_tab:
                duels = arena.build(settings, serving, supervisor, state)
            with gr.Tab(t("Teach"), id="teach") as teach_tab:
                lessons = teach.build(settings, state)
            with gr.Tab(t("Learning"), id="learning") as learning_tab:
                curves = learning.build(settings)
            with gr.Tab(t("Rounds"), id="rounds") as rounds_tab:
                live = rounds.build(settings, supervisor, state)
            with gr.Tab(t("Models"), id="models") as models_tab:
                versions = models.build(settings, serving, state)
            with gr.Tab(t("Admin"), id="admin") as admin_tab:
                owner = admin.build(settings, state, kept)
        fill_when_opened(arena_tab, duels, "arena")
        fill_when_opened(teach_tab, lessons, "lessons")
        fill_when_opened(learning_tab, curves, "learning")
        fill_when_opened(rounds_tab, live, "refresh")
        fill_when_opened(models_tab, versions, "models")
        fill_when_opened(admin_tab, owner, "admin")
        endpoints(settings, serving, supervisor)
        sidebar.connect(settings, state, side, parts)
        tick_while_open(tabs, rounds_tab, live["timer"])
        scripts = prose.SCRIPT, page.script(session.home_mark(settings)), plots.SCRIPT, times.SCRIPT
        demo.load(None, js=f"() => {{ {' '.join(f'({script})();' for script in scripts)} }}")
        connect_load(demo, settings, supervisor, who, kept, state, parts, notice, side)
    return demo


def fill_when_opened(tab: gr.Tab, built: dict, name: str) -> None:
    """`built` is what a tab's `build` returns: "fill", its "outputs", and its "inputs" if any."""
    fill = session.named(built["fill"], name)
    tab.select(fill, built.get("inputs"), built["outputs"], queue=False, **session.PRIVATE)


def tick_while_open(tabs: gr.Tabs, tab: gr.Tab, timer: gr.Timer) -> None:
    def watch(opened: gr.SelectData):  # one event decides: two, of the tab and of its neighbours, would race
        return gr.Timer(active=tabs.children[opened.index] is tab)

    tabs.select(watch, None, timer, **session.IN_ORDER)


def connect_load(
    demo: gr.Blocks,
    settings: Settings,
    supervisor: Supervisor,
    who: gr.BrowserState,
    kept: gr.BrowserState,
    state: gr.State,
    parts: chat.Parts,
    notice: gr.Markdown,
    side: dict,
) -> None:
    """When the page loads: who the person is, then the header, the owner's notice, and the person's conversations."""
    loaded = demo.load(session.loader(settings), [who, kept], [who, state], queue=False, **session.PRIVATE)
    header = session.named(partial(chat.header, settings, supervisor), "header_at_start")
    loaded.then(header, None, parts.head, queue=False, **session.PRIVATE)  # it says that the page is ready
    words = session.named(partial(consent.notice, settings), "notice")
    loaded.then(words, None, notice, queue=False, **session.PRIVATE)
    opened = [parts.bot, state, parts.authors, parts.where, side["past"], side["learn"], parts.version]
    loaded.then(sidebar.starter(settings), state, opened, queue=False, **session.PRIVATE)


def launch(demo: gr.Blocks, settings: Settings, routes: list[BaseRoute]) -> None:
    """`routes` come before Gradio's own."""
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
        _frontend=False,  # else it gives up, for ever, where its own page takes three seconds: a busy machine's does
        blocked_paths=[str(settings.home)],
        theme=THEME,
        css=page.CSS,
        i18n=built(),
        app_kwargs={"routes": routes},
    )
    app.get("/healthz")(lambda: {"ok": True})
