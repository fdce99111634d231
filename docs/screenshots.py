"""Screenshots of every tab, light on a desk and dark on a phone: `python docs/screenshots.py HOME`.

Starts the app on a home that has seen a round (what `python -m kdloop simulate --home HOME` left, for instance) and
writes PNGs beside this file. Needs requirements-dev.txt and Chromium.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect, sync_playwright

HERE = Path(__file__).parent / "screenshots"
PORT = "7871"
TABS = ("Chat", "Arena", "Teach", "Learning", "Rounds", "Models", "Admin")
QUESTION = "What should I cook with two eggs and rice?"


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
        wait(f"http://127.0.0.1:{PORT}/healthz")
        with sync_playwright() as p:
            chromium = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            desk = chromium.new_page(viewport={"width": 1200, "height": 760})
            desk.goto(f"http://127.0.0.1:{PORT}/?__theme=light")
            tour(desk, TABS, "")
            phone = chromium.new_page(viewport={"width": 390, "height": 760})
            phone.goto(f"http://127.0.0.1:{PORT}/?__theme=dark")
            tour(phone, TABS[:1], "-phone")
    finally:
        app.terminate()
        app.wait(30)


def wait(url: str) -> None:
    for _ in range(120):
        try:
            return httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            time.sleep(1)


def tour(page: Page, tabs: tuple[str, ...], suffix: str) -> None:
    expect(page.locator("#header")).to_contain_text("student", timeout=30_000)
    for tab in tabs:
        page.get_by_role("tab", name=tab, exact=True).click()
        if tab == "Chat":
            page.get_by_role("textbox", name="Message").fill(QUESTION)
            page.get_by_role("textbox", name="Message").press("Enter")
            expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=15_000)
            expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=120_000)
            page.get_by_role("button", name="Like", exact=True).last.click()
        if tab == "Arena":
            page.get_by_role("textbox", name="Prompt").fill("Give me three tips for better sleep.")
            page.get_by_role("button", name="Duel").click()
            expect(page.locator("#reveal")).to_contain_text("Which is better?", timeout=120_000)
        page.wait_for_timeout(2500)
        page.screenshot(path=HERE / f"{tab.lower()}{suffix}.png")


if __name__ == "__main__":
    main(sys.argv[1])
