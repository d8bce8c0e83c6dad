"""The options of the command line, on their page.

`python book/options.py` writes them anew; a test holds the page to them.
"""

import re
from pathlib import Path

from attncore.__main__ import app

PAGE = Path(__file__).parent / "api" / "command_line.md"
MARK = "<!-- What follows is written by book/options.py. -->\n"
ORDER = ("train", "evaluate", "recommend", "prepare", "export", "bench", "data")
SHARED = ("Reading the log", "Training", "Model")


def options() -> str:
    """A section for each command, with a list for each group of options."""
    text = app.generate_docs(heading_level=1, usage_name="python -m attncore")
    parts = re.split(r"\n## python -m attncore (\w+)\n", text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return "\n".join(
        f"## {name}\n\n{plain(sections[name], whole=name == 'train')}" for name in ORDER
    )


def plain(section: str, whole: bool) -> str:
    """A section in a line an option, without what `train` has said already."""
    section = re.sub(r"\n {2,}(?=\S)", " ", section).replace(" *[default: ()]*", "")
    # How this process was started slips in.
    section = re.sub(r"(?m)^(python -m attncore \w+) -m \S+", r"\1", section)
    if not whole:
        for group in SHARED:
            section = re.sub(
                rf"\*\*{group}\*\*:\n\n(\* .*\n)+",
                f"**{group}**: as of `train`.\n",
                section,
            )
    return section.strip() + "\n"


def page() -> str:
    """The whole page: what stands above the mark, then the options."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + "\n" + options()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
