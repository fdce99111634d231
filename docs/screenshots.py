"""Screenshots of every tab, light on a desk and dark on a phone, and the picture of the loop: `make screenshots`.

    python docs/screenshots.py HOME

Starts the app on a home that has seen a round (what `python -m kdloop simulate --home HOME` left, for instance) and
writes PNGs to docs/screenshots/. `loop.png` is made of parts of the running app's tabs, joined by arrows. Needs
requirements-dev.txt and Chromium.
"""

import base64
import os
import shutil
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

HERE = Path(__file__).parent / "screenshots"
PORT = "7871"
URL = f"http://127.0.0.1:{PORT}"
TABS = ("Chat", "Arena", "Teach", "Learning", "Rounds", "Models", "Admin")
QUESTION = "What should I cook with two eggs and rice?"
DUEL = "Give me three tips for better sleep."
SLOW = 240_000  # milliseconds: a reply beside other work

# The loop, in its order: the tab, the first and the last element of the part that is shown, and the words under it.
LOOP = {
    "chat": ("Chat", "#header", "#chat-log", "1. People chat with the version that serves."),
    "votes": ("Arena", "#duel-left", "#vote-down", "2. They vote: thumbs, choices, better texts."),
    "round": ("Rounds", "#live", ".vega-embed", "3. After 36 new votes, a round trains a candidate."),
    "gate": ("Rounds", "#guards", "#guards", "4. The gate: shown to be better, and every guard held?"),
    "version": ("Models", "#lineage", "#lineage", "5. Promoted: the next reply comes from the new version."),
}
LAYOUT = """
<style>
body { margin: 0; padding: 18px; width: 1244px; background: #fff; font: 600 17px system-ui, sans-serif; color: #134e4a;
  display: grid; grid-template-columns: 1fr 34px 1fr 34px 1fr; grid-template-rows: auto 34px auto; }
figure { margin: 0; border: 2px solid #0d9488; border-radius: 10px; overflow: hidden; display: flex;
  flex-direction: column; background: #f8fafc; }
figure div { height: 300px; overflow: hidden; display: flex; align-items: center; justify-content: center; }
figure img { width: 100%; max-height: 100%; object-fit: contain; }
figcaption { padding: 9px 12px; background: #ccfbf1; }
b { align-self: center; justify-self: center; font-size: 32px; color: #0d9488; line-height: 1; }
#chat { grid-area: 1 / 1 } #votes { grid-area: 1 / 3 } #round { grid-area: 1 / 5 }
#gate { grid-area: 3 / 5 } #version { grid-area: 3 / 1 / 3 / 4 }
</style>
%s
<b style="grid-area: 1 / 2">➜</b><b style="grid-area: 1 / 4">➜</b>
<b style="grid-area: 2 / 5; transform: rotate(90deg)">➜</b><b style="grid-area: 3 / 4; transform: rotate(180deg)">➜</b>
<b style="grid-area: 2 / 1; transform: rotate(-90deg)">➜</b>
"""


def main(home: str) -> None:
    HERE.mkdir(exist_ok=True)
    env = os.environ | {
        "KDLOOP_HOME": home,
        "KDLOOP_PORT": PORT,
        "KDLOOP_COMPARE_EVERY": "0",
        "KDLOOP_ROUND_VOTES": "0",
    }
    app = subprocess.Popen([sys.executable, "app.py"], env=env, cwd=HERE.parent.parent)
    try:
        wait(f"{URL}/healthz")
        with sync_playwright() as p:
            chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            tour(opened(chromium, 1200, 760, "light"), TABS, "")
            tour(opened(chromium, 390, 760, "dark"), TABS[:1], "-phone")
            draw_loop(chromium, parts(opened(chromium, 620, 760, "light")))
    finally:
        app.terminate()
        app.wait(30)


def wait(url: str) -> None:
    for _ in range(240):
        try:
            return httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            time.sleep(1)


def opened(chromium: Browser, width: int, height: int, theme: str) -> Page:
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.goto(f"{URL}/?__theme={theme}")
    expect(page.locator("#header")).to_contain_text("student", timeout=60_000)
    return page


def tour(page: Page, tabs: tuple[str, ...], suffix: str) -> None:
    for tab in tabs:
        show(page, tab)
        page.screenshot(path=HERE / f"{tab.lower()}{suffix}.png")


def show(page: Page, tab: str) -> None:
    """Open a tab and use it, so that there is something on it."""
    page.get_by_role("tab", name=tab, exact=True).click()
    if tab == "Chat":
        page.get_by_role("textbox", name="Message").fill(QUESTION)
        page.get_by_role("textbox", name="Message").press("Enter")
        expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=SLOW)
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=SLOW)
        page.get_by_role("button", name="Like", exact=True).last.click()
    if tab == "Arena":
        page.get_by_role("textbox", name="Prompt").fill(DUEL)
        page.get_by_role("button", name="Duel").click()
        expect(page.locator("#reveal")).to_contain_text("Which is better?", timeout=SLOW)
    page.wait_for_timeout(2500)


def parts(page: Page) -> dict[str, bytes]:
    """name -> PNG of the part of its tab that LOOP names."""
    taken, before = {}, ""
    for name, (tab, first, last, _) in LOOP.items():
        if tab != before:
            show(page, tab)
        top, end = (page.locator(element).first.bounding_box() for element in (first, last))
        left, right = min(top["x"], end["x"]), max(top["x"] + top["width"], end["x"] + end["width"])
        clip = {"x": left, "y": top["y"], "width": right - left, "height": end["y"] + end["height"] - top["y"]}
        taken[name], before = page.screenshot(clip=clip, full_page=True), tab
    return taken


def draw_loop(chromium: Browser, taken: dict[str, bytes]) -> None:
    figures = [
        f'<figure id="{name}"><div><img src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>'
        f"<figcaption>{LOOP[name][3]}</figcaption></figure>"
        for name, png in taken.items()
    ]
    page = chromium.new_page(viewport={"width": 1280, "height": 400}, device_scale_factor=1.5)
    page.set_content(LAYOUT % "".join(figures))
    page.wait_for_timeout(500)
    with Image.open(BytesIO(page.screenshot(full_page=True))) as drawn:
        drawn.convert("RGB").quantize(128).save(HERE / "loop.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
