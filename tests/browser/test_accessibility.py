"""axe-core on every tab: nothing serious, nothing critical."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import ask
from test_visits import open_tab

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_violation_on_any_tab(public_app, browser, theme):
    page = ask(browser.new_context(), f"{public_app[0]}?__theme={theme}", "Name a bird.")
    found = {}
    for tab in ("Chat", "Arena", "Teach", "Learning", "Rounds", "Models", "Admin"):
        open_tab(page, tab)
        page.wait_for_timeout(700)
        violations = Axe().run(page).response["violations"]
        grave = [v for v in violations if v["impact"] in ("serious", "critical")]
        found |= {f"{tab}: {v['id']}": [n["html"][:160] for n in v["nodes"][:3]] for v in grave}
    assert found == {}
