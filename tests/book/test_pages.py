"""The built book in a real browser: opened from disk, with the network cut."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import archive
import first_cell
import pytest
import yaml
from conftest import need

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BOOK_BUDGET, PAGE_BUDGET, SECONDS = 40e6, 1.5e6, 60
pytestmark = pytest.mark.browser
sys.path.insert(0, str(ROOT / "book"))


def build(source, out):
    """Build a book as README says, with warnings as errors.

    Returns its folder and the seconds of CPU it took.
    """
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


def watched(context):
    """A page on which all that goes wrong is collected in `page.wrong`."""
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


@pytest.fixture
def visit(browser):
    """Makes a page in a browser without a network."""
    contexts = []

    def opened(width=1280, scheme="light"):
        context = browser.new_context(
            offline=True, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        contexts.append(context)
        return watched(context)

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


MEASURE = """() => {
    const seen = (e) => e.getClientRects().length > 0;
    const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
    const cut = (selector, box = (e) => null) => all(selector)
        .filter(e => e.scrollWidth > e.clientWidth
            || e.offsetWidth > (box(e)?.clientWidth ?? Infinity) + 1)
        .map(e => e.textContent.trim().slice(0, 60));
    const inText = (e) => getComputedStyle(e).display === 'inline'
        || e.closest('.citation, .headerlink, .footnote');
    const pressed = 'a[href], button, summary, select, input:not([type=radio]),'
        + ' fieldset label, label.pressed';
    // Headings that the sign linking to them makes higher.
    const high = (h) => h.getBoundingClientRect().height;
    const loose = all('article :is(h1, h2, h3)').filter(h => {
        const sign = h.querySelector('.headerlink'), whole = high(h);
        sign?.style.setProperty('display', 'none', 'important');
        const plain = high(h);
        sign?.style.removeProperty('display');
        return whole > plain + 4;
    }).map(h => h.textContent);
    return {
        loose,
        code: cut('article div.highlight pre'),
        tables: cut('article table', e => e.parentElement),
        formulas: cut('article mjx-container[display]'),
        width: document.documentElement.scrollWidth,
        letters: all('.drawn-box svg text').map(text => {
            const svg = text.closest('svg');
            const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
            return parseFloat(getComputedStyle(text).fontSize) * scale;
        }).filter(size => size < 10.9),
        small: all(pressed).filter(e => !(e.nodeName === 'A' && inText(e)))
            .filter(e => !e.closest('.skip-link, .sd-stretched-link'))
            .filter(e => !e.closest('dialog:not([open])'))
            .filter(e => getComputedStyle(e).visibility === 'visible')
            .map(e => [e, e.getBoundingClientRect()])
            .filter(([, r]) => r.width < 23.9 || r.height < 23.9)
            .map(([e]) => e.outerHTML.slice(0, 100)),
    };
}"""
FACTS = """() => { const all = (selector) => [...document.querySelectorAll(selector)];
return {
    formulas: document.querySelectorAll('.math').length,
    set: document.querySelectorAll('.math mjx-container > svg').length,
    wrong: document.querySelectorAll('[data-mml-node=merror]').length,
    headings: document.querySelectorAll('article h1').length,
    mute: all("article img:not([alt]), article img[alt='']").length,
    unseen: [...document.images].some(i => i.loading !== 'lazy' && !i.naturalWidth),
    twice: all('[id]').map(e => e.id).filter((id, i, ids) => ids.indexOf(id) !== i),
    empty: all('.cell_output pre').filter(e => !e.textContent.trim()).length,
    boxes: all('.output.stream + :is(.output.stream, .output.text_plain)').length,
}; }"""
# What stands on a page a thousand times, coloured words of code and parts of formulas,
# is checked once each.
THIN = """() => {
    const seen = new Set();
    document.querySelectorAll('.highlight pre span[class]').forEach(word => {
        const kind = word.className + !!word.closest('.cell_output');
        if (seen.has(kind)) word.replaceWith(...word.childNodes);
        seen.add(kind);
    });
    const formulas = [...document.querySelectorAll('mjx-container')];
    formulas.slice(3).forEach(formula => formula.replaceChildren());
}"""
SETTLE = """() => new Promise(done => requestAnimationFrame(
    () => requestAnimationFrame(() => setTimeout(done, 60))))"""


@pytest.fixture(scope="module")
def walked(html, browser):
    """What every page shows, from one visit: loaded wide, then narrow, then dark."""
    from axe_playwright_python.sync_playwright import Axe

    axe, walk = Axe(), {}
    context = browser.new_context(
        offline=True, color_scheme="light", viewport={"width": 1280, "height": 800}
    )
    page = watched(context)
    for path in [
        *pages(html),
        *(html / f"{name}.html" for name in ("search", "genindex", "404")),
    ]:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.emulate_media(color_scheme="light")
        page.wrong.clear()
        settled(page, path)
        facts = page.evaluate(FACTS)
        facts[1280] = page.evaluate(MEASURE)
        for width in (390, 360):
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate(SETTLE)
            facts[width] = page.evaluate(MEASURE)
        page.set_viewport_size({"width": 1280, "height": 800})
        facts["problems"] = list(page.wrong)
        page.evaluate(THIN)
        found = axe.run(
            page, options={"preload": False, "resultTypes": ["violations"]}
        ).response["violations"]
        facts["axe"] = [(v["id"], v["nodes"][0]["html"][:160]) for v in found]
        if path in chapters(html) or path.name in (
            "intro.html",
            "glossary.html",
            "search.html",
        ):
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            page.wait_for_timeout(400)  # colours fade
            dark = {
                "runOnly": ["color-contrast"],
                "preload": False,
                "resultTypes": ["violations"],
            }
            found = axe.run(page, options=dark).response["violations"]
            facts["axe"] += [
                ("dark", v["id"], v["nodes"][0]["html"][:160]) for v in found
            ]
        walk[path.name if path.parent.name != "api" else f"api/{path.name}"] = facts
    context.close()
    return walk


def faults(walked, fault):
    """The pages that have a fault, and what it is."""
    return {name: found for name, facts in walked.items() if (found := fault(facts))}


def test_every_page_of_the_toc_loads_from_disk_without_a_network_and_whole(
    html, walked, visit
):
    listed = re.findall(
        r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")
    )
    assert [str(p.relative_to(html).with_suffix("")) for p in pages(html)] == sorted(
        listed
    )
    assert faults(walked, lambda f: f["problems"]) == {}
    assert faults(walked, lambda f: f["formulas"] != f["set"] or f["wrong"]) == {}
    assert faults(walked, lambda f: f["mute"] or f["unseen"]) == {}
    assert faults(walked, lambda f: f["twice"]) == {}
    assert {name for name, facts in walked.items() if facts["headings"] != 1} <= {
        "search.html",
        "genindex.html",
    }
    page = visit()
    page.goto((html / "index.html").as_uri())
    page.wait_for_url("**/book/intro.html")


def test_outputs_that_follow_one_another_are_one_box_and_none_is_empty(walked):
    assert faults(walked, lambda f: f["empty"] or f["boxes"]) == {}


@pytest.mark.parametrize("what", ["code", "tables", "formulas"])
def test_nothing_is_cut_on_a_laptop(walked, what):
    assert faults(walked, lambda f: f[1280][what]) == {}


@pytest.mark.parametrize("what", ["tables", "formulas"])
def test_no_table_and_no_formula_is_cut_on_a_phone(walked, what):
    assert faults(walked, lambda f: f[390][what]) == {}


@pytest.mark.parametrize("width", [1280, 390])
def test_no_heading_has_an_empty_line_below_it(walked, width):
    assert faults(walked, lambda f: f[width]["loose"]) == {}


def test_every_page_fits_a_phone(walked):
    assert faults(walked, lambda f: max(0, f[360]["width"] - 360)) == {}


@pytest.mark.parametrize("width", [1280, 390, 360])
def test_the_letters_of_figures_are_of_11_px(walked, width):
    assert faults(walked, lambda f: f[width]["letters"]) == {}


def test_figures_are_numbered_within_their_chapter_and_found_by_name(html):
    found = {}
    for path in pages(html):
        page = path.read_text(encoding="utf-8")
        figures = re.findall(
            r'<figure class="[^"]*" id="([^"]+)">\s*<div class="(?:drawn-box|widget)"',
            page,
        )
        numbers = re.findall(
            r'<span class="caption-number">Figure ([\d.]+) </span>', page
        )
        if figures:
            found[path.stem] = numbers
            assert len(figures) == len(numbers) == len(set(figures))
    assert found["08_attention_in_a_model"] == [f"8.{n}" for n in range(1, 6)]


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_pressed_is_large_enough_for_a_finger(walked, width):
    assert faults(walked, lambda f: f[width]["small"]) == {}


def test_no_page_has_a_fault_for_a_screen_reader_or_a_weak_eye(walked):
    assert faults(walked, lambda f: f["axe"]) == {}


@pytest.mark.parametrize(
    ("width", "button"), [(390, 0), (800, 0), (390, 1), (800, 1), (1280, 0)]
)
def test_the_menus_open_and_lead_on(html, visit, width, button):
    page = visit(width=width)
    settled(page, html / "book" / "02_query_key_value.html")
    buttons = page.locator(".bd-header-article .sidebar-toggle:visible")
    side = page.locator("#pst-primary-sidebar")
    if width == 1280:
        assert side.is_visible()
        buttons.nth(button).click()
        side.wait_for(state="hidden")
        buttons.nth(button).click()
        side.wait_for(state="visible")
    else:
        buttons.nth(button).click()
    if button == 0:
        page.locator("nav.bd-links a:visible", has_text="Serving").click()
        page.wait_for_url("**/book/18_serving.html")
    else:
        page.locator("dialog[open] nav.page-toc a", has_text="Look inside").click()
        page.wait_for_url("**/02_query_key_value.html#look-inside")
    assert page.wrong == []


def test_explorers_are_dark_on_a_dark_page(html, visit):
    page = visit(scheme="dark")
    settled(page, html / "book" / "explorers.html")
    light = page.eval_on_selector_all(
        ".attncore-explorer, .widget",
        """roots => roots.flatMap(root => {
            const grounds = [];
            for (let node = root; node; node = node.parentElement)
                grounds.push(getComputedStyle(node).backgroundColor);
            const ground = grounds.find(colour => colour !== 'rgba(0, 0, 0, 0)');
            return [[ground, getComputedStyle(root).color]];
        })""",
    )
    assert len(light) >= 3
    for ground, ink in light:
        assert luminance(ground) < 0.05
        assert luminance(ink) > 0.4


def test_the_map_of_the_stages_says_where_the_reader_is(html, visit):
    page = visit(width=390)
    settled(page, html / "book" / "intro.html")
    there = page.locator("nav.stages a").evaluate_all("all => all.map(a => a.href)")
    assert len(there) == 6
    assert page.locator("nav.stages .lit").count() == 0
    for address in there:
        page.goto(address)
        assert page.locator("nav.stages [aria-current=step]").evaluate(
            "a => a.href"
        ) in (page.url)
    settled(page, html / "book" / "14_sequential.html")
    assert page.locator("nav.stages .lit").count() == 4
    settled(page, html / "book" / "16_explaining.html")
    assert page.locator("nav.stages").count() == 0


def test_the_same_symbol_has_one_colour_in_formula_code_and_legend(html, visit):
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme)
        settled(page, html / "book" / "02_query_key_value.html")
        colours = {
            role: page.evaluate(
                """role => {
                    const kinds = [
                        "mjx-container g", "div.highlight span", "nav button"];
                    return kinds.map(kind => getComputedStyle(
                        document.querySelector(`${kind}.sym-${role}`)).color);
                }""",
                role,
            )
            for role in ("query", "key", "value")
        }
        assert all(len(set(found)) == 1 for found in colours.values())
        assert len({found[0] for found in colours.values()}) == 3
        assert page.wrong == []


def test_pointing_at_a_symbol_lights_the_others(html, visit):
    page = visit()
    settled(page, html / "book" / "02_query_key_value.html")
    lit = "document.querySelector('article').dataset.lit ?? ''"
    page.locator("div.highlight .sym-key:visible").first.hover()
    assert page.evaluate(lit) == "key"
    assert page.locator("mjx-container .sym-key").first.evaluate(
        "n => getComputedStyle(n).strokeWidth"
    ) == ("60px")
    page.locator("article h1").hover()
    assert page.evaluate(lit) == ""
    button = page.locator("nav.symbols button").first
    button.focus()
    assert page.evaluate(lit) == "query"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    page.locator("nav.symbols button").nth(1).blur()
    assert page.evaluate(lit) == ""


def test_a_term_and_a_citation_open_in_place(html, visit):
    page = visit()
    settled(page, html / "book" / "08_attention_in_a_model.html")
    note = page.locator("#book-note")
    term = page.locator("article a[href$='#term-residual']:visible").first
    term.hover()
    note.wait_for(state="visible")
    assert note.locator(".note-term").text_content().startswith("residual")
    assert re.search("[\u4e00-\u9fff]", note.locator(".note-zh").text_content())
    assert term.get_attribute("aria-describedby") == "book-note"
    page.keyboard.press("Escape")
    assert not note.is_visible()
    cited = page.locator("article a[href*='bibliography.html#id']:visible").first
    cited.focus()
    note.wait_for(state="visible")
    assert re.search(r"\d{4}", note.text_content())
    box = note.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    page.locator("article h1").click()
    assert not note.is_visible()
    term.click()
    page.wait_for_url("**/glossary.html#term-residual")
    assert page.wrong == []


def test_a_tap_opens_a_term_and_its_link_goes_on(html, browser):
    context = browser.new_context(
        offline=True, has_touch=True, viewport={"width": 390, "height": 800}
    )
    page = watched(context)
    settled(page, html / "book" / "08_attention_in_a_model.html")
    page.locator("article a[href$='#term-residual']:visible").first.tap()
    note = page.locator("#book-note")
    note.wait_for(state="visible")
    box = note.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    note.get_by_text("in the glossary").tap()
    page.wait_for_url("**/glossary.html#term-residual")
    context.close()


def test_a_name_of_the_module_links_to_the_chapters_that_use_it(html):
    page = (html / "book" / "api" / "attention.html").read_text(encoding="utf-8")
    assert re.search(r"Explained in <a[^>]*04_attention_layer", page)


@pytest.mark.parametrize("name", ["02_query_key_value", "13_contextual", "notation"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_printed_whole_and_alone(html, visit, name, scheme):
    page = visit(width=673, scheme=scheme)  # A4 without its margins
    settled(page, html / "book" / f"{name}.html")
    page.emulate_media(media="print")
    page.evaluate(SETTLE)
    for beside in (
        ".bd-header-article",
        "#pst-primary-sidebar",
        ".prev-next-footer",
        ".headerlink",
        ".copybtn",
    ):
        assert not page.locator(f"{beside}:visible").count()
    assert page.locator("h1:visible").count() == 1
    assert (
        page.locator(".solution section:visible").count()
        == page.locator(".solution section").count()
    )
    assert page.evaluate(MEASURE)["code"] == []
    assert page.evaluate(MEASURE)["formulas"] == []
    strokes = page.eval_on_selector_all(
        "mjx-container use", "all => all.map(p => getComputedStyle(p).stroke)"
    )
    assert strokes
    assert set(strokes) == {"none"}
    inks = page.eval_on_selector_all(
        "article p, article pre, article pre span",
        "all => all.map(p => getComputedStyle(p).color)",
    )
    assert max(map(luminance, set(inks))) < 0.35  # it is read on white paper


def test_all_that_a_page_loads_lies_in_the_build(html):
    absent = []
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc=\"([^\"]+)\"",
            text,
        )
        loaded += re.findall(
            r"<link\b(?=[^>]*rel=\"(?:stylesheet|preload|icon|shortcut icon)\")"
            r"[^>]*href=\"([^\"]+)\"",
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
    "查询向量": "glossary#",
    "注意力权重": "glossary#",
    "mask": "03_softmax_and_weights",
    "NDCG": "11_evaluating",
    "GPU": "10_training",
    "onnx": "18_serving",
    "cold start": "12_personalized",
    "negative sampling": "09_output_layer",
    "leave one out": "11_evaluating",
    "leave-one-out": "11_evaluating",
    "target attention": "02_query_key_value",
    "implicit feedback": "06_data_preparation",
    "two tower": "13_contextual",
    "two-tower": "13_contextual",
    "next-item": "14_sequential",
    "next item": "14_sequential",
    "Query, key, value": "02_query_key_value",
    "heat_map": "plotting",
    "leave_one_out": "splits",
    "bibliography": "bibliography",
    "read_interactions": "interactions",
}


def search(page, html, query):
    """The results of a query, once the search has ended."""
    page.goto(f"{(html / 'search.html').as_uri()}?q={query}", wait_until="load")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function(
        "!/Searching|Preparing/.test("
        "document.querySelector('#search-results h2')?.textContent)"
    )
    return page.locator("#search-results li")


def test_the_search_gives_the_right_page_first_without_a_network(html, visit):
    page, first = visit(), {}
    for query, wanted in QUERIES.items():
        link = search(page, html, query).first.locator("a").first.get_attribute("href")
        first[query] = Path(link.split("?")[0]).stem + (
            "#" if wanted.endswith("#") and "#term-" in link else ""
        )
    assert first == QUERIES
    assert page.wrong == []


def test_the_search_quotes_what_it_found_and_the_page_shows_it(html, visit):
    page = visit()
    for query, word in (
        ("negative sampling", "negative"),
        ("查询向量", "查询向量"),
        ("leave-one-out", "leave"),
    ):
        result = search(page, html, query).first
        assert (
            word
            in " ".join(result.locator(".context mark").all_text_contents()).lower()
        ), query
        assert len(result.locator(".context").text_content()) > 40
        result.locator("a").first.click()
        page.wait_for_selector("article mark.searched")
        assert (
            word in " ".join(page.locator("mark.searched").all_text_contents()).lower()
        )
    page.keyboard.press("Escape")
    assert page.locator("mark.searched").count() == 0
    assert page.wrong == []


def test_a_page_says_what_it_is_to_machines_and_in_its_footer(html):
    descriptions = {}
    for path in pages(html):
        text = path.read_text(encoding="utf-8")
        descriptions[path] = re.search(
            r'<meta name="description" content="([^"]{20,})"', text
        )[1]
        assert 'property="og:title"' in text
        assert 'property="og:description"' in text
        title = re.search(r"<title>(.*)</title>", text)[1]
        assert len(set(title.split(" &#8212; "))) == len(title.split(" &#8212; ")), (
            title
        )
        footer = text[text.index('class="bd-footer-content"') :]
        assert re.search(
            r"version \d+\.\d+\.\d+ ·\s+"
            r"<a href=\"[./]*_static/LICENSE.txt\">MIT License</a>",
            footer,
        )
        assert "By The" not in text
    assert len(set(descriptions.values())) > 0.9 * len(descriptions)
    assert "MIT License" in (html / "_static" / "LICENSE.txt").read_text(
        encoding="utf-8"
    )


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_arrow_keys_scroll_code_and_turn_no_page(html, visit):
    page = visit(width=360)
    settled(page, html / "book" / "02_query_key_value.html")
    here = page.url
    widest = page.evaluate(
        """() => { const all = [...document.querySelectorAll('div.highlight pre')]
                .filter(e => !e.closest('.toggle-hidden, details:not([open])'));
            const over = e => e.scrollWidth - e.clientWidth;
            const wide = all.reduce((a, b) => over(a) >= over(b) ? a : b);
            wide.scrollIntoView(); wide.tabIndex = 0; wide.focus(); wide.id = 'widest';
            return over(wide); }"""
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
    config["html"]["baseurl"] = "https://someone.github.io/attncore/"
    config["sphinx"]["local_extensions"] = {"pages": str(ROOT / "book")}
    config["sphinx"]["config"]["html_static_path"] = []
    config["sphinx"]["config"]["nb_execution_mode"] = "off"
    config["sphinx"]["config"]["html_css_files"] = config["sphinx"]["config"][
        "html_js_files"
    ] = []
    config["sphinx"]["config"]["html_search_scorer"] = ""
    config["sphinx"]["config"]["templates_path"] = [str(ROOT / "book" / "_templates")]
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
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# A page"]}],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    page = small / "book" / "01_page.ipynb"
    page.write_text(json.dumps(notebook), encoding="utf-8")
    first_cell.write([page], "")
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
    # Colab opens the notebook of the repository: the address came into its first cell,
    # and into the copy to download.
    address = "https://github.com/someone/attncore/archive/refs/heads/main.zip"
    assert f'_set_up(\\"{address}\\")' in page.read_text(encoding="utf-8")
    assert (folder / "_sources" / "book" / page.name).read_bytes() == page.read_bytes()
    assert (
        'property="og:url" content="https://someone.github.io/attncore/book/01_page.html"'
        in text
    )
    assert (
        "https://someone.github.io/attncore/book/01_page.html"
        in (folder / "sitemap.xml").read_text()
    )
    assert (
        '<base href="https://someone.github.io/attncore/">'
        in (folder / "404.html").read_text()
    )


def test_the_archive_is_that_of_the_present_notebooks(html, tmp_path):
    # tests/book/test_archive.py unpacks and runs it.
    archive.pack(tmp_path / archive.NAME)
    assert (html / "_static" / archive.NAME).read_bytes() == (
        tmp_path / archive.NAME
    ).read_bytes()


def test_a_page_is_downloaded_as_the_notebook_that_it_is_and_shows_no_set_up(html):
    for path in (ROOT / "book").glob("*.ipynb"):
        assert (
            html / "_sources" / "book" / path.name
        ).read_bytes() == path.read_bytes()
        assert "_set_up" not in (html / "book" / f"{path.stem}.html").read_text(
            encoding="utf-8"
        )


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

    # In a process of its own: Playwright allows one driver in each, and that of the
    # other tests still runs.
    subprocess.run(
        [sys.executable, ROOT / "book" / "pdf.py", tmp_path / "attncore.pdf"],
        check=True,
    )
    document = pypdfium2.PdfDocument(tmp_path / "attncore.pdf")
    text = [document[i].get_textpage().get_text_bounded() for i in range(len(document))]
    whole = "\n".join(text)
    assert len(document) > 40
    assert "查询向量" in whole
    for title in ("What counting can", "Data preparation", "Glossary"):
        assert title in whole
    # No formula is left as it was typed.
    assert not re.search(r"\\(frac|softmax|sum|operatorname)", whole)
    blank = []
    for i in range(len(document)):
        image = document[i].render(scale=0.5).to_numpy()
        if (
            image[: int(len(image) * 0.93)].min() > 200
        ):  # nothing above the page's number
            blank.append(i + 1)
    assert blank == []


def fonts():
    return subprocess.run(
        ["fc-list"], capture_output=True, text=True, check=True
    ).stdout


def test_ci_never_skips_the_browser():
    assert CHROMIUM is not None or not os.environ.get("CI")
