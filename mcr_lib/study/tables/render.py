"""The one renderer of tables: rows of named cells as Markdown or HTML, or for the terminal or a notebook."""

import html as _html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler
    from rich.table import Table

Rows = Sequence[Mapping[str, Any]]


def columns_of(rows: Rows) -> list[str]:
    """The keys of all rows, in the order in which they first occur."""
    return list(dict.fromkeys(key for row in rows for key in row))


def markdown(rows: Rows, columns: Sequence[str] | None = None) -> str:
    """A Markdown table, one line per row, without a newline at its end.

    Args:
        columns: keys in order, also the headings; `None` = all keys.

    Example:
        >>> print(markdown([{"setting": "sft", "F1": "91.9"}]))
        | setting | F1 |
        |---|---|
        | sft | 91.9 |
    """
    columns = columns_of(rows) if columns is None else columns
    lines = [[str(row.get(column, "")) for column in columns] for row in rows]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)])


def html(rows: Rows) -> str:
    """An HTML table in a scrolling frame; `None` is a dash.

    Example:
        >>> html([{"a": "<x>"}])
        "<div class='wide'><table><tr><th>a</th></tr><tr><td>&lt;x&gt;</td></tr></table></div>"
    """
    columns = columns_of(rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = ("".join(f"<td>{escape(row.get(column, ''))}</td>" for column in columns) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def escape(value: Any) -> str:
    """A cell as HTML text; `None` is a dash."""
    return _html.escape("–" if value is None else str(value))


def terminal(
    title: str, columns: Sequence[str], lines: Iterable[Sequence[str]] = (), *, is_text: bool = False
) -> "Table":
    """A table of the terminal: the first column to the left, the others to the right. Cells may hold rich's
    markup.

    Args:
        is_text: all columns to the left, long cells in several lines.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for k, column in enumerate(columns):
        overflow = "fold" if is_text else "ellipsis"
        table.add_column(column, justify="right" if k and not is_text else "left", overflow=overflow)
    for line in lines:
        table.add_row(*line)
    return table


def notebook(rows: Rows, index: str | None = None) -> "Styler | None":
    """A styled table: whole cells, left-aligned, floats as `:g`, tags of model text shown as written.

    Args:
        index: key of the row's name; `None` = the first key, and no rows give `None` instead of a table.
    """
    import pandas as pd

    if not rows and index is None:
        return None
    columns = list(rows[0]) if rows else [index]
    short = [{k: f"{v:g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    left = {"selector": "th, td", "props": "text-align: left; white-space: pre-wrap; vertical-align: top"}
    table = pd.DataFrame(short, columns=columns).set_index(index or columns[0])
    return table.style.format(escape="html").set_table_styles([left])
