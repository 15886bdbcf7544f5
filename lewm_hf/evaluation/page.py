"""The frame of an HTML report: style, sections, tables. No scripts, nothing to fetch."""

from collections.abc import Collection, Sequence
from html import escape

STYLE = """
:root { --ink: #262a33; --muted: #69707d; --line: #e6e8ec; --accent: #2f6fde; --soft: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--soft); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.7rem; margin: 0 0 2px; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 0 0 4px; }
p { margin: 0 0 12px; }
.muted { color: var(--muted); }
section { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 20px; margin-top: 18px; }
.cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); margin-bottom: 16px; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card .name { font-weight: 600; }
.big { font-size: 2.7rem; font-weight: 700; line-height: 1.15; color: var(--accent); }
.plots { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.films { display: grid; gap: 18px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
img { max-width: 100%; height: auto; display: block; }
.plots img, .films img { width: 100%; }
.bars { width: 100%; max-width: 720px; }
.films img { border: 1px solid var(--line); border-radius: 8px; }
figure { margin: 0; }
figcaption { font-size: 0.86rem; color: var(--muted); margin-top: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); vertical-align: bottom; }
thead th { color: var(--muted); font-weight: 600; }
td:first-child { color: var(--muted); }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
.changed { color: var(--accent); font-weight: 600; }
pre { background: #1f2430; color: #e8eaf0; padding: 14px; border-radius: 8px; overflow-x: auto; font-size: 0.85rem;
  margin: 0; }
pre.plain { background: var(--soft); color: var(--ink); border: 1px solid var(--line); }
.stack { display: grid; gap: 14px; justify-items: start; margin-bottom: 14px; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--muted); }
@media (max-width: 560px) {
  main { padding: 16px 10px 40px; }
  section { padding: 14px; }
  .big { font-size: 2.2rem; }
}
"""


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """A complete HTML document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<div class="muted">{escape(subtitle)}</div>\n'
        + "\n".join(filter(None, sections))
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """A titled box; `body` is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Collection[int] = (), escaped: bool = True
) -> str:
    """A table that scrolls on narrow screens.

    Args:
        numeric: columns that are aligned to the right.
        escaped: cells are text; otherwise they are HTML already.
    """

    def cell(tag: str, column: int, text: str) -> str:
        css = ' class="number"' if column in numeric else ""
        return f"<{tag}{css}>{escape(text) if escaped else text}</{tag}>"

    header = "".join(cell("th", column, text) for column, text in enumerate(head))
    body = "\n".join(f"<tr>{''.join(cell('td', column, text) for column, text in enumerate(row))}</tr>" for row in rows)
    top = f"<thead><tr>{header}</tr></thead>\n" if any(head) else ""
    return f'<div class="scroll"><table>\n{top}<tbody>\n{body}\n</tbody>\n</table></div>'
