"""Make one PDF of the whole book: .venv/bin/python book/pdf.py [FILE]

Sphinx puts all chapters on one page, and Chromium prints it. On Debian both of these
are needed, the second for the Chinese terms: apt-get install chromium fonts-noto-cjk
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FOOTER = (
    '<div style="font-size:8px;width:100%;text-align:center">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)


def build(folder: Path) -> Path:
    """The book as a single page in `folder`."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [
        str(tool),
        "build",
        str(ROOT),
        "--path-output",
        str(folder),
        "--builder",
        "singlehtml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the book does not build:\n{(done.stdout + done.stderr)[-2000:]}")
    pages = folder / "_build" / "singlehtml"
    # Its links to styles, scripts and figures are those of a page at the top.
    return (pages / "book" / "intro.html").rename(pages / "book.html")


def print_page(page_file: Path, pdf: Path) -> None:
    """Print a page once its formulas are set; book.css says how it looks on paper."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("the PDF needs Chromium: apt-get install chromium fonts-noto-cjk")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(page_file.as_uri(), wait_until="load")
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("MathJax.startup.promise.then(() => true)")
        page.pdf(
            path=pdf,
            prefer_css_page_size=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            print_background=True,
            outline=True,
            tagged=True,
        )
        browser.close()


def main(pdf: Path) -> None:
    """Build and print."""
    pdf.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        print_page(build(Path(folder)), pdf)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build" / "attncore.pdf")
