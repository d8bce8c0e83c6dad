"""The built book in a real browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import need

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The book, built as README says, with warnings as errors."""
    need(CHROMIUM is not None, "Chromium (apt-get install chromium)")
    out = tmp_path_factory.mktemp("book")
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", str(ROOT), "--path-output", str(out), "-W", "-n", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return out / "_build" / "html"


@pytest.fixture(scope="module")
def page(html):
    need(CHROMIUM is not None, "Chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser.new_page()
        browser.close()


def pages(html):
    """The book's own pages; the theme's templates and the indexes stand elsewhere."""
    return sorted((html / "book").rglob("*.html"))


def test_every_page_has_one_heading_and_no_broken_script(html, page):
    found = pages(html)
    assert len(found) >= 25
    for path in found:
        errors = []
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        assert page.locator("article h1").count() == 1, path
        ours = [e for e in errors if "THEBE_JS_URL" not in e]  # the theme declares that constant twice
        assert ours == [], path
        assert page.locator("article img:not([alt])").count() == 0, path


def test_every_link_inside_the_book_leads_somewhere(html, page):
    broken = []
    for path in pages(html):
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        for link in page.eval_on_selector_all("article a[href]", "links => links.map(a => a.href)"):
            if link.startswith("file:"):
                target, _, anchor = link.removeprefix("file://").partition("#")
                file = Path(target)
                found = file.exists()
                if found and anchor and file.suffix == ".html":
                    found = f'id="{anchor}"' in file.read_text(encoding="utf-8")
                if not found:
                    broken.append((path.name, link))
    assert broken == []


def test_figures_are_seen(html, page):
    page.goto((html / "book" / "intro.html").as_uri(), wait_until="load")
    width = page.eval_on_selector("article img", "image => image.naturalWidth")
    assert width > 400


def test_ci_never_skips_the_browser():
    assert CHROMIUM is not None or not os.environ.get("CI")
