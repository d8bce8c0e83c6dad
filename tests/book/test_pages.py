"""The built book in a real browser: opened from disk, with the network cut."""

import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from conftest import need

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BOOK_BUDGET, PAGE_BUDGET, SECONDS = 40e6, 1.5e6, 60
pytestmark = pytest.mark.browser
sys.path.insert(0, str(ROOT / "book"))


def build(source, out):
    """Build a book as README says, with warnings as errors; returns its folder and the
    seconds of CPU it took."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [
        str(tool),
        "build",
        str(source),
        "--path-output",
        str(out),
        "-W",
        "-n",
        "--keep-going",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1800, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return (
        out / "_build" / "html",
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    need(CHROMIUM is not None, "Chromium (apt-get install chromium)")
    # A book that is built already, while a page is being written.
    if given := os.environ.get("ATTNCORE_BOOK"):
        return Path(given), None
    return build(ROOT, tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def html(built):
    return built[0]


@pytest.fixture(scope="module")
def browser():
    need(CHROMIUM is not None, "Chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Makes a page in a browser without a network; what goes wrong on it is collected
    in `page.wrong`."""
    contexts = []

    def opened(width=1280, scheme="light"):
        context = browser.new_context(
            offline=True, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda m: (
                page.wrong.append(f"console: {m.text}")
                if m.type in ("error", "warning")
                else None
            ),
        )
        page.on(
            "requestfailed", lambda request: page.wrong.append(f"failed: {request.url}")
        )
        page.on(
            "request",
            lambda r: (
                page.wrong.append(f"asked for {r.url}")
                if not r.url.startswith(("file:", "data:"))
                else None
            ),
        )
        return page

    yield opened
    for context in contexts:
        context.close()


def pages(html):
    """The book's own pages; the theme's templates and the indexes stand elsewhere."""
    return sorted((html / "book").rglob("*.html"))


def chapters(html):
    return [path for path in pages(html) if re.match(r"\d\d_", path.name)]


def settled(page, path):
    """Open a page, and wait until its formulas are set."""
    page.goto(path.as_uri(), wait_until="load")
    if page.evaluate("!!window.MathJax"):
        page.wait_for_function("MathJax.startup?.promise")
        page.evaluate("MathJax.startup.promise.then(() => true)")


def test_every_page_of_the_toc_loads_from_disk_without_a_network_and_whole(html, visit):
    found = pages(html)
    listed = re.findall(
        r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")
    )
    assert [str(p.relative_to(html).with_suffix("")) for p in found] == sorted(listed)
    page, wrong = visit(), []
    for path in [*found, html / "search.html", html / "genindex.html"]:
        page.wrong.clear()
        settled(page, path)
        wrong += [(path.name, problem) for problem in page.wrong]
        if path in found:
            formulas = page.evaluate(
                """[document.querySelectorAll('.math').length,
                    document.querySelectorAll('.math mjx-container > svg').length,
                    document.querySelectorAll('[data-mml-node=merror]').length]"""
            )
            if formulas[0] != formulas[1] or formulas[2]:
                wrong.append((path.name, f"formulas, set, wrong: {formulas}"))
            if page.locator("article h1").count() != 1:
                wrong.append((path.name, "not one heading of the first rank"))
            if page.locator("article img:not([alt]), article img[alt='']").count():
                wrong.append((path.name, "an image without alt text"))
            if page.evaluate(
                "[...document.images].some(i => i.loading !== 'lazy' &&"
                " !i.naturalWidth)"
            ):
                wrong.append((path.name, "an image that is not seen"))
    assert wrong == []
    page.goto((html / "index.html").as_uri())
    page.wait_for_url("**/book/intro.html")


def test_all_that_a_page_loads_lies_in_the_build(html):
    absent = []
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc=\"([^\"]+)\"",
            text,
        )
        loaded += re.findall(
            r"<link\b(?=[^>]*rel=\"(?:stylesheet|preload|icon|shortcut"
            r" icon)\")[^>]*href=\"([^\"]+)\"",
            text,
        )
        if path.name not in ("webpack-macros.html", "sbt-webpack-macros.html"):
            absent += [
                (path.name, link)
                for link in loaded
                if not link.startswith("data:")
                and not (path.parent / unquote(link.split("?")[0])).resolve().exists()
            ]
    for path in html.rglob("*.css"):
        for link in re.findall(
            r"url\([\"']?([^\"')]+)", path.read_text(encoding="utf-8")
        ):
            if (
                not link.startswith(("data:", "#"))
                and not (path.parent / re.split(r"[?#]", link)[0]).resolve().exists()
            ):
                absent.append((path.name, link))
    assert absent == []


def test_no_page_names_a_script_that_would_be_fetched(html):
    for path in pages(html):
        assert not re.search(
            r"unpkg|jsdelivr|cdnjs|googleapis|THEBE", path.read_text(encoding="utf-8")
        ), path.name


def test_every_link_inside_the_book_leads_somewhere(html):
    identifiers, broken = {}, []
    for path in pages(html):
        text = path.read_text(encoding="utf-8")
        article = text[text.index("<article") : text.rindex("</article>")]
        for link in re.findall(r"<a\b[^>]*?\shref=\"([^\"]+)\"", article):
            if re.match(r"[a-z]+:", link):
                assert link.startswith(("https://", "mailto:")), (path.name, link)
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / unquote(target)).resolve() if target else path
            if not file.exists():
                broken.append((path.name, link))
            elif anchor and file.suffix == ".html":
                if file not in identifiers:
                    identifiers[file] = set(
                        re.findall(
                            r"\sid=\"([^\"]+)\"", file.read_text(encoding="utf-8")
                        )
                    )
                if unquote(anchor) not in identifiers[file]:
                    broken.append((path.name, link))
    assert broken == []


QUERIES = {
    "softmax": "03_softmax_and_weights",
    "temperature": "03_softmax_and_weights",
    "softmax and attention weights": "03_softmax_and_weights",
    "query vector": "02_query_key_value",
    "查询向量": "glossary",
    "注意力权重": "glossary",
    "first recommender": "01_first_recommender",
    "Query, key, value": "02_query_key_value",
    "heat_map": "plotting",
    "leave_one_out": "splits",
    "bibliography": "bibliography",
    "read_interactions": "interactions",
}


def test_the_search_gives_the_right_page_first_without_a_network(html, visit):
    page, first = visit(), {}
    for query in QUERIES:
        page.goto(f"{(html / 'search.html').as_uri()}?q={query}", wait_until="load")
        page.wait_for_selector("#search-results li a")
        page.wait_for_function(
            "!/Searching|Preparing/.test(document.querySelector('#search-results"
            " h2')?.textContent)"
        )
        first[query] = Path(
            page.eval_on_selector("#search-results li a", "a => a.pathname")
        ).stem
    assert first == QUERIES
    assert page.wrong == []


def test_no_page_has_a_serious_fault_for_a_screen_reader_or_a_weak_eye(html, visit):
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme)
        for path in [*pages(html), html / "search.html"]:
            if (
                scheme == "light"
                or path in chapters(html)
                or path.name in ("intro.html", "glossary.html")
            ):
                settled(page, path)
                violations = Axe().run(page).response["violations"]
                found += [
                    (scheme, path.name, v["id"], v["nodes"][0]["html"][:160])
                    for v in violations
                    if v["impact"] in ("serious", "critical")
                ]
    assert found == []


def test_every_page_fits_a_phone(html, visit):
    page = visit(width=360)
    wide = []
    for path in [*pages(html), html / "search.html", html / "genindex.html"]:
        settled(page, path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            wide.append((path.name, width))
    assert wide == []


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_opaque_and_their_captions_are_read_in_both_modes(
    html, visit, scheme
):
    page = visit(scheme=scheme)
    settled(page, html / "book" / "intro.html")
    assert (
        page.eval_on_selector("article figure img", "image => image.naturalWidth") > 400
    )
    ink = page.eval_on_selector("figcaption p", "p => getComputedStyle(p).color")
    paper = page.eval_on_selector("body", "b => getComputedStyle(b).backgroundColor")
    light, dark = sorted([luminance(ink), luminance(paper)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 7
    if scheme == "dark":
        settled(page, html / "book" / "03_softmax_and_weights.html")
        under = page.eval_on_selector(
            ".cell_output img", "image => getComputedStyle(image).backgroundColor"
        )
        assert under == "rgb(255, 255, 255)"


def test_arrow_keys_scroll_code_and_turn_no_page(html, visit):
    page = visit(width=360)
    settled(page, html / "book" / "02_query_key_value.html")
    here = page.url
    widest = page.evaluate(
        """() => { const all = [...document.querySelectorAll('div.highlight pre')];
            const over = a => a.scrollWidth - a.clientWidth;
            const wide = all.reduce((a, b) => over(a) >= over(b) ? a : b);
            wide.scrollIntoView(); wide.tabIndex = 0; wide.focus(); wide.id = 'widest';
            return wide.scrollWidth - wide.clientWidth; }"""
    )
    assert widest > 20
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#widest').scrollLeft > 0")
    assert page.url == here


def test_code_can_be_copied_and_the_notebook_had(html, visit):
    page = visit()
    for path in chapters(html):
        settled(page, path)
        assert (
            page.locator("div.highlight").count()
            == page.locator("button.copybtn").count()
            > 5
        )
        link = page.locator("a[href$='.ipynb']").first.get_attribute("href")
        assert (path.parent / link).resolve().exists()
        assert page.locator(".prev-next-title").count() == 2
        assert all(page.locator(".prev-next-title").all_text_contents())


def test_launch_buttons_are_off_until_the_repository_has_an_address(html, tmp_path):
    for path in chapters(html):
        assert not re.search(
            r"mybinder|colab\.research", path.read_text(encoding="utf-8")
        ), path.name
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["repository"]["url"] = (
        "https://github.com/someone/attncore"  # the one setting
    )
    config["sphinx"]["local_extensions"] = {"pages": str(ROOT / "book")}
    config["sphinx"]["config"]["html_static_path"] = []
    config["sphinx"]["config"]["nb_execution_mode"] = "off"
    config["sphinx"]["config"]["html_css_files"] = config["sphinx"]["config"][
        "html_js_files"
    ] = []
    config["sphinx"]["config"]["html_search_scorer"] = ""
    config["logo"], config["html"]["favicon"] = "", ""
    config["bibtex_bibfiles"] = [str(ROOT / "book" / "references.bib")]
    small = tmp_path / "source"
    (small / "book").mkdir(parents=True)
    (small / "_config.yml").write_text(
        yaml.safe_dump(config, allow_unicode=True), encoding="utf-8"
    )
    (small / "_toc.yml").write_text(
        "format: jb-book\nroot: book/01_page\n", encoding="utf-8"
    )
    cell = '{"cell_type": "markdown", "metadata": {}, "source": ["# A page"]}'
    kernel = (
        '{"kernelspec": {"display_name": "Python 3", "language": "python", "name":'
        ' "python3"}}'
    )
    notebook = (
        f'{{"cells": [{cell}], "metadata": {kernel}, "nbformat": 4,'
        ' "nbformat_minor": 4}'
    )
    (small / "book" / "01_page.ipynb").write_text(notebook, encoding="utf-8")
    folder, _ = build(small, tmp_path / "out")
    text = (folder / "book" / "01_page.html").read_text(encoding="utf-8")
    assert (
        "https://mybinder.org/v2/gh/someone/attncore/main?urlpath=lab/tree/book/01_page.ipynb"
        in text
    )
    assert (
        "https://colab.research.google.com/github/someone/attncore/blob/main/book/01_page.ipynb"
        in text
    )


def test_the_archive_holds_what_the_notebooks_need(html):
    from pages import ARCHIVE

    with zipfile.ZipFile(html / "_static" / ARCHIVE) as archive:
        held = set(archive.namelist())
    beside = {path.stem for path in (ROOT / "book").glob("*.py")}
    for path in (ROOT / "book").glob("*.ipynb"):
        assert f"attncore/book/{path.name}" in held
        imported = set(
            re.findall(r'"(?:import|from) (\w+)', path.read_text(encoding="utf-8"))
        )
        assert {f"attncore/book/{name}.py" for name in imported & beside} <= held
    assert any(name.startswith("attncore/tests/bench/results/") for name in held)


def test_the_book_keeps_to_its_budgets(built):
    html, seconds = built
    assert [
        (p.name, p.stat().st_size)
        for p in html.rglob("*.html")
        if p.stat().st_size > PAGE_BUDGET
    ] == []
    assert sum(p.stat().st_size for p in html.rglob("*") if p.is_file()) < BOOK_BUDGET
    assert seconds is None or seconds < SECONDS


def test_the_whole_book_is_one_pdf_with_its_chinese_terms_and_formulas(tmp_path):
    need(CHROMIUM is not None, "Chromium (apt-get install chromium)")
    need(
        bool(shutil.which("fc-list")) and "CJK" in fonts(),
        "fonts-noto-cjk (apt-get install fonts-noto-cjk)",
    )
    import pypdfium2

    # In a process of its own: Playwright allows one driver in each, and the other
    # tests' still runs.
    subprocess.run(
        [sys.executable, ROOT / "book" / "pdf.py", tmp_path / "attncore.pdf"],
        check=True,
    )
    document = pypdfium2.PdfDocument(tmp_path / "attncore.pdf")
    text = [document[i].get_textpage().get_text_bounded() for i in range(len(document))]
    whole = "\n".join(text)
    assert len(document) > 40
    assert "查询向量" in whole
    for title in ("Softmax and attention weights", "A first recommender", "Glossary"):
        assert title in whole
    # No formula is left as it was typed.
    assert not re.search(r"\\(frac|softmax|sum|operatorname)", whole)
    blank = []
    for i in range(len(document)):
        image = document[i].render(scale=0.5).to_numpy()
        # Nothing above the page's number.
        if image[: int(len(image) * 0.93)].min() > 200:
            blank.append(i + 1)
    assert blank == []


def fonts():
    return subprocess.run(
        ["fc-list"], capture_output=True, text=True, check=True
    ).stdout


def test_ci_never_skips_the_browser():
    assert CHROMIUM is not None or not os.environ.get("CI")
