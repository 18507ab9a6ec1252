"""A hook of mkdocs: the pages that are made from something else, each in place of one word on its page."""

import re
from pathlib import Path
from typing import Any

import docs_commands
import docs_methods
import docs_records


def contributing() -> str:
    """Return CONTRIBUTING.md without its title, its links as they are from the folder of the pages."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    return text.partition("\n")[2].replace("](docs/", "](")


OUTSIDE = re.compile(r"\]\((\.\./[^)#]+)\)")
PAGES = {
    "commands.md": ("COMMANDS", docs_commands.reference),
    "contributing.md": ("CONTRIBUTING", contributing),
    "methods.md": ("METHODS", docs_methods.reference),
    "records.md": ("RECORD", docs_records.reference),
}


def on_files(files: Any, config: Any) -> Any:
    """Put the files into the site that pages link to, outside of the folder of the pages."""
    from mkdocs.structure.files import File  # the rest of this file works without mkdocs

    root = Path(config["docs_dir"])
    texts = "".join(page.content_string for page in files.documentation_pages())
    for path in sorted({root / link for link in OUTSIDE.findall(texts)}):
        files.append(File.generated(config, path.name, abs_src_path=str(path.resolve())))
    return files


def on_page_markdown(markdown: str, page: Any, **named: Any) -> str:
    """Fill a page that is made from something else; lead links to outside to the copies in the site."""
    if page.file.src_uri in PAGES:
        word, reference = PAGES[page.file.src_uri]
        markdown = markdown.replace(f"\n{word}\n", f"\n{reference()}\n")
    return OUTSIDE.sub(lambda link: f"]({Path(link[1]).name})", markdown)
