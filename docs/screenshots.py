"""Screenshots of every tab, light on a desk and dark on a phone, and the picture of the loop that is made of them.

    make screenshots HOME_DIR=HOME    # or: python docs/screenshots.py [HOME]

Starts the app on a home that has seen a round (what `python -m kdloop simulate --home HOME` left, for instance) and
writes PNGs beside this file, `loop.png` last: parts of the others, joined by arrows. Without a home that one alone is
drawn anew. Needs requirements-dev.txt and Chromium.
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

# The loop, in its order: the screenshot, the part of it that is shown (left, top, right, bottom), the words under it.
LOOP = {
    "chat": ("chat", (104, 180, 1080, 578), "1. People chat with the version that serves."),
    "votes": ("arena", (112, 361, 1088, 760), "2. They vote: thumbs, a choice of two, a better text."),
    "round": ("rounds", (112, 220, 1088, 508), "3. After 36 new votes a round trains a candidate."),
    "gate": ("learning", (120, 250, 1080, 500), "4. The gate: is it better, on held-out prompts?"),
    "version": ("models", (104, 176, 1080, 760), "5. Promoted: the next reply comes from it."),
}
LAYOUT = """<!doctype html>
<style>
body { margin: 0; padding: 16px; width: 1208px; background: #fff; font: 600 18px system-ui, sans-serif; color: #134e4a;
  display: grid; grid-template: auto 40px auto 40px auto / 1fr 48px 1fr; }
figure { margin: 0; border: 2px solid #0d9488; border-radius: 10px; overflow: hidden; background: #f8fafc; }
figure img { width: 100%; display: block; }
figcaption { padding: 10px 14px; background: #ccfbf1; }
b { align-self: center; justify-self: center; font-size: 40px; line-height: 1; color: #0d9488; }
#chat { grid-area: 1 / 1; align-self: end } #votes { grid-area: 1 / 3 } #round { grid-area: 3 / 3 }
#gate { grid-area: 5 / 3 } #version { grid-area: 3 / 1 / 6 / 1; align-self: end }
</style>
FIGURES
<b style="grid-area: 1 / 2">➜</b><b style="grid-area: 2 / 3; transform: rotate(90deg)">➜</b>
<b style="grid-area: 4 / 3; transform: rotate(90deg)">➜</b><b style="grid-area: 5 / 2; transform: rotate(180deg)">➜</b>
<b style="grid-area: 2 / 1; transform: rotate(-90deg)">➜</b>
"""


def main(home: str = "") -> None:
    HERE.mkdir(exist_ok=True)
    with sync_playwright() as p:
        found = shutil.which("chromium") or shutil.which("chromium-headless-shell")
        chromium = p.chromium.launch(executable_path=found, args=["--no-sandbox"])
        if home:
            take_all(chromium, home)
        draw_loop(chromium)


def take_all(chromium: Browser, home: str) -> None:
    env = os.environ | {
        "KDLOOP_HOME": home,
        "KDLOOP_PORT": PORT,
        "KDLOOP_COMPARE_EVERY": "0",
        "KDLOOP_ROUND_VOTES": "0",
    }
    app = subprocess.Popen([sys.executable, "app.py"], env=env, cwd=HERE.parent.parent)
    try:
        wait(f"{URL}/healthz")
        tour(opened(chromium, 1200, 760, "light"), TABS, "")
        tour(opened(chromium, 390, 760, "dark"), TABS[:1], "-phone")
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
        expect(page.locator("#duel-about")).to_contain_text("which answer is better?", timeout=SLOW)
    page.wait_for_timeout(2500)


def draw_loop(chromium: Browser) -> None:
    figures = ""
    for name, (screenshot, box, words) in LOOP.items():
        png = BytesIO()
        with Image.open(HERE / f"{screenshot}.png") as whole:
            whole.crop(box).save(png, "PNG")
        data = base64.b64encode(png.getvalue()).decode()
        image = f'<img src="data:image/png;base64,{data}">'
        figures += f'<figure id="{name}">{image}<figcaption>{words}</figcaption></figure>'
    page = chromium.new_page(viewport={"width": 1240, "height": 400}, device_scale_factor=1.5)
    page.set_content(LAYOUT.replace("FIGURES", figures))
    page.wait_for_timeout(500)
    with Image.open(BytesIO(page.screenshot(full_page=True))) as drawn:
        drawn.convert("RGB").quantize(64).save(HERE / "loop.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
