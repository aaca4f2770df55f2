"""The one renderer of tables: rows of named cells as Markdown or HTML, or for the terminal or a notebook."""

import html as _html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

Rows = Sequence[Mapping[str, Any]]


def markdown(rows: Rows, columns: Sequence[str]) -> str:
    """A Markdown table with these columns, one line per row, without a newline at its end."""
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|---" * len(columns) + "|", *body])


def html(rows: Rows) -> str:
    """An HTML table in a scrolling frame; `None` is a dash."""

    def line(tag: str, values: Iterable[Any]) -> str:
        texts = (_html.escape("–" if value is None else str(value)) for value in values)
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

    columns = list(dict.fromkeys(key for row in rows for key in row))
    body = "".join(line("td", (row.get(column, "") for column in columns)) for row in rows)
    return f"<div class='wide'><table>{line('th', columns)}{body}</table></div>"


def folded(summary: str, content: str) -> str:
    """HTML that is shown when one clicks on its summary."""
    return f"<details><summary>{_html.escape(summary)}</summary>{content}</details>"


def terminal(title: str, columns: Sequence[str], lines: Iterable[Any], *, is_text: bool = False) -> Table:
    """A table of the terminal, cells with markup; `is_text`: to the left, long cells in several lines."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    overflow, side = ("fold", "left") if is_text else ("ellipsis", "right")
    for column in columns:
        table.add_column(column, justify=side if table.columns else "left", overflow=overflow)
    for line in lines:
        table.add_row(*line)
    return table


def notebook(rows: Rows, fold: str = "") -> Any:
    """A table of a notebook, rows named by their first key, under the summary `fold`; `None` if empty."""
    import pandas as pd
    from IPython.display import HTML

    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    short = [{k: f"{v:g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    left = {"selector": "th, td", "props": "text-align: left; white-space: pre-wrap; vertical-align: top"}
    table = pd.DataFrame(short, columns=columns).fillna("").rename_axis(columns=columns[0])
    text = table.set_index(columns[0]).rename_axis(None).style.format(escape="html")
    text = text.set_table_styles([left]).to_html()
    return HTML(folded(fold, text) if fold else text)
