"""The page. One file per tab: layout, wiring, handlers that call a domain function.

Every handler is an endpoint that anyone can call: each checks its own input, takes the person from server-side state,
and never trusts ids or history that the browser posts.

In: settings, the champion, the supervisor. Out: a Gradio page. May import all rooms but evaluation; never TRL.
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
    loop,
    models,
    plots,
    prose,
    rounds,
    session,
    sidebar,
    teach,
    times,
)
from kdloop.ui.words import I18N, t

CSS = """
footer button, footer a { color: var(--body-text-color) !important; }
.table-wrap * { font-family: var(--font) !important; }
.submit-button { background: var(--button-primary-background-fill) !important; color: white !important; }
.placeholder { padding: 0 var(--spacing-xxl); }
.kd-head { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.kd-head p { margin: 0; }
.kd-writing .message-wrap > :nth-last-child(1 of .message-buttons) { display: none; }
.kd-text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; text-align: start; }
.kd-text pre { margin: 0; white-space: pre-wrap; }
.kd-text code { direction: ltr; unicode-bidi: isolate; }
#chat-log .kd-text :is(code, pre) { font-size: 0.9em; }
#chat-log .kd-text pre code { font-size: inherit; }
.kd-thought { border-inline-start: 2px solid var(--border-color-primary); padding-inline-start: 0.8em; }
.kd-thought { margin-bottom: 0.6em; }
.kd-thought, .kd-thought summary { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.kd-thought summary { cursor: pointer; }
.kd-heading { font-size: 1.15em; }
#header [data-testid=status-tracker]:has(.error) { display: none; }
.kd-mark { color: var(--body-text-color-subdued); font-weight: normal; font-style: normal; }
.kd-alarm { border-inline-start: 4px solid #b45309; padding: 4px 12px; }
.kd-met::marker { content: "✓ "; }
.kd-unmet::marker { content: "✗ "; }
.kd-unmet, .kd-broken > * { color: #b91c1c; font-weight: 600; }
.dark :is(.kd-unmet, .kd-broken > *) { color: #fca5a5; }
.kd-card { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); padding: 8px 16px; }
.kd-card ul { padding-inline-start: 1.6em; }
.kd-table { overflow-x: auto; }
.kd-table table { width: 100%; border-collapse: collapse; font-size: var(--text-sm); }
.kd-table :is(td, th) { border: 1px solid var(--border-color-primary); padding: 6px 8px; text-align: start; }
.kd-pair { border-top: 1px solid var(--border-color-primary); padding: 8px 0; }
.kd-pair > .kd-text { font-weight: 600; }
.kd-pair .copy_code_button { display: none; }
.kd-pair > div:last-child { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 16px; }
.kd-plot figcaption { display: flex; justify-content: space-between; align-items: center; gap: 8px; }
.kd-plot button { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 2px 8px; }
.kd-plot button { margin-inline-start: 4px; min-height: 24px; font-size: var(--text-sm); }
.kd-lineage { overflow-x: auto; }
.kd-lineage text { text-anchor: middle; font-size: 13px; }
.kd-lineage .kd-small { font-size: 11px; fill: var(--body-text-color-subdued); }
"""

ROLES = """
() => {
  const roles = {  // where Gradio misleads screen readers: the right role, or none
    ".examples[role=list]": {role: "group"},  // it holds buttons, no items
    ".toast-header[role=button]": {role: null, tabindex: null},  // a button that holds a button
  }
  const mend = () => Object.entries(roles).forEach(([found, attributes]) =>
    document.querySelectorAll(found).forEach(element => Object.entries(attributes).forEach(([name, value]) =>
      value === null ? element.removeAttribute(name) : element.setAttribute(name, value))))
  new MutationObserver(mend).observe(document.body, {childList: true, subtree: true})
  mend()
}
"""
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
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_hover_dark="#991b1b",
    button_cancel_text_color="white",
    button_cancel_text_color_dark="white",
    button_cancel_text_color_hover="white",
    button_cancel_text_color_hover_dark="white",
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
        gr.Markdown(t("## kdloop\nChat with a small student. Your ratings are its next lesson."))
        notice = consent.build(settings)
        with gr.Tabs() as tabs:
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
        for script in (arena.KEYS, ROLES, prose.SCRIPT, loop.SCRIPT, plots.SCRIPT, times.SCRIPT):
            demo.load(None, js=script)
        connect_load(demo, settings, supervisor, who, kept, state, parts.head, notice, side["past"])
    return demo


def fill_when_opened(tab: gr.Tab, built: dict, name: str) -> None:
    """`built` is what a tab's `build` returns: "fill", its "outputs", and its "inputs" if any."""
    fill = session.named(built["fill"], name)
    tab.select(fill, built.get("inputs"), built["outputs"], queue=False, **session.PRIVATE)


def tick_while_open(tabs: gr.Tabs, tab: gr.Tab, timer: gr.Timer) -> None:
    def watch(opened: gr.SelectData):  # one event decides: two, of the tab and of its neighbours, would race
        return gr.Timer(active=tabs.children[opened.index] is tab)

    tabs.select(watch, None, timer, queue=False, **session.PRIVATE)


def connect_load(
    demo: gr.Blocks,
    settings: Settings,
    supervisor: Supervisor,
    who: gr.BrowserState,
    kept: gr.BrowserState,
    state: gr.State,
    head: gr.Markdown,
    notice: gr.Markdown,
    past: gr.Radio,
) -> None:
    """When the page loads: who the person is, then the header, the owner's notice, and the person's conversations."""
    loaded = demo.load(session.loader(settings), [who, kept], [who, state], queue=False, **session.PRIVATE)
    header = session.named(partial(chat.header, settings, supervisor), "header_at_start")
    loaded.then(header, None, head, queue=False, **session.PRIVATE)  # it says that the page is ready
    words = session.named(partial(consent.notice, settings), "notice")
    loaded.then(words, None, notice, queue=False, **session.PRIVATE)
    titles = session.named(partial(sidebar.titles, settings, ""), "titles_at_start")
    loaded.then(titles, state, past, queue=False, **session.PRIVATE)


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
        blocked_paths=[str(settings.home)],
        theme=THEME,
        css=CSS,
        i18n=I18N,
        app_kwargs={"routes": routes},
    )
    app.get("/healthz")(lambda: {"ok": True})
