"""axe-core on every tab: nothing serious, nothing critical."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import ask
from playwright.sync_api import Page
from test_settings import signed_in
from test_visits import open_tab

pytestmark = pytest.mark.slow
TABS = ("Chat", "Arena", "Teach", "Learning", "Rounds", "Models", "Admin")


def grave_violations(page: Page) -> dict[str, list[str]]:
    """Tab and rule -> what breaks it there."""
    found = {}
    for tab in TABS:
        open_tab(page, tab)
        page.wait_for_timeout(700)
        violations = Axe().run(page).response["violations"]
        grave = [v for v in violations if v["impact"] in ("serious", "critical")]
        found |= {f"{tab}: {v['id']}": [n["html"][:160] for n in v["nodes"][:3]] for v in grave}
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_violation_on_any_tab(public_app, browser, theme):
    page = ask(browser.new_context(), f"{public_app[0]}?__theme={theme}", "Name a bird.")
    assert grave_violations(page) == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_violation_on_what_only_the_owner_sees(public_app, browser, theme):
    page, _ = signed_in(browser, f"{public_app[0]}?__theme={theme}")
    page.get_by_role("button", name="Set the weight").click()  # nobody is chosen: a toast says so
    page.get_by_test_id("toast-body").first.wait_for()
    assert grave_violations(page) == {}
