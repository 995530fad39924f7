"""What MkDocs does to a page beyond its plugins: roles and ``::`` of docstrings become Markdown."""

import re
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):<code>~?([^<]*)</code>")
LITERAL = re.compile(r"(?<=\w)::(?=</p>)|<p>::</p>\n?")


def on_page_content(html: str, **_: Any) -> str:
    """Return the page's HTML without the marks of reStructuredText."""
    return LITERAL.sub(
        lambda mark: ":" if mark[0] == "::" else "", ROLE.sub(r"<code>\1</code>", html)
    )
