"""What is written for users: README.md and docs/*.md, and the blocks of code that stand in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: README first, then docs/ by name: path from the checkout's folder -> text.
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES["README.md"]
#: All of them as one text.
ALL = "\n".join(PAGES.values())


def blocks(language: str, text: str = ALL) -> list[str]:
    """The blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, line) of every command in a block of a shell, without its comment, on one line."""
    lines = ((page, re.sub(r"\s+#.*", "", line)) for page, text in PAGES.items()
             for block in blocks("sh", text) for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines())
    return [(page, line) for page, line in lines if line.strip()]
