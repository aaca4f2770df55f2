"""Placing predicted names in the text and pairing them with gold: one rule for scorers, bias, strict rewards.

A model answers with names, gold is token spans. Placing turns the k-th name of an answer into a span of the
tweet, pairing assigns it to a gold entity. Paper silent; ours. Perfect answers in reading order score 100.00
on every split of Twitter-GMNER.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]  # half-open token span [start, end)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the words of one prediction are in the text.

    "duplicate" = it repeats a placed prediction and its words have no further occurrence; "unplaced" = its
    words do not occur, or no longer.
    """

    kind: Literal["placed", "duplicate", "unplaced"]
    span: Span | None = None  # for a duplicate that of the prediction it repeats; `None` if unplaced
    repeats: int | None = None  # index of the placed prediction that a duplicate repeats
    is_lenient: bool = False  # whether it took the comparison without spaces


def place(names: Sequence[str], tokens: Sequence[str], *, lenient: bool = False) -> list[Placement]:
    """The placement of each name of an answer, in output order.

    A name takes the leftmost exact token match that overlaps no placed name and starts at or after the end of
    the name placed before it; else the leftmost that overlaps none; else, if its words equal those of a
    placed name, it is a duplicate of that; else it is unplaced. Lenient (evaluation only): if there is no
    exact match, names are also compared without spaces (`#GoDubs` matches `# GoDubs`).

    Example:
        >>> [p.span for p in place(["Paris", "Texas", "Paris"], ["Paris", "or", "Paris", "Texas"])]
        [(0, 1), (3, 4), (2, 3)]
    """
    occurrences: dict[tuple[bool, str], list[Span]] = {}
    taken = [False] * len(tokens)
    owner: dict[tuple[bool, str], int] = {}
    placements: list[Placement] = []
    previous_end = 0
    for index, name in enumerate(names):
        words = spaced(name)
        placement = Placement("unplaced")
        keys = [(False, words)] + ([(True, words.replace(" ", ""))] if lenient else [])
        for key in keys:
            if key not in occurrences:
                occurrences[key] = _occurrences(key[1], tokens, glue="" if key[0] else " ")
            free = [span for span in occurrences[key] if not any(taken[span[0] : span[1]])]
            if free:
                span = next((s for s in free if s[0] >= previous_end), free[0])
                taken[span[0] : span[1]] = [True] * (span[1] - span[0])
                previous_end = span[1]
                placement = Placement("placed", span, is_lenient=key[0])
                owner.update(dict.fromkeys(keys, index))
                break
        else:
            if key := next((key for key in keys if key in owner), None):
                repeated = placements[owner[key]]
                is_lenient = key[0] or repeated.is_lenient
                placement = Placement("duplicate", repeated.span, owner[key], is_lenient)
        placements.append(placement)
    return placements


def spaced(name: str) -> str:
    """A name as compared with tokens: one space between its words, none around, `<|` as the tweet has it."""
    return " ".join(word for word in name.split(" ") if word).replace("< |", "<|")  # `prompts.plain`


@dataclass(frozen=True, slots=True)
class Pairing:
    """A one-to-one assignment of predictions to gold entities: pairs of their indices, in text order."""

    matches: tuple[tuple[int, int], ...]  # with equal spans
    touches: tuple[tuple[int, int], ...]  # that share a token but not the span


def pair(pred_spans: Sequence[Span | None], gold_spans: Sequence[Span]) -> Pairing:
    """Pair predictions with gold: equal spans first, then spans that share a token, left to right.

    A prediction whose span is `None` takes no part (duplicate, unplaced). Gold spans are disjoint.

    Example:
        >>> pair([(0, 1), (2, 5), None], [(0, 1), (3, 4)])
        Pairing(matches=((0, 0),), touches=((1, 1),))
    """
    free_gold = dict(sorted((span, j) for j, span in enumerate(gold_spans)))
    ordered = sorted((span, i) for i, span in enumerate(pred_spans) if span is not None)
    matches, touches, unmatched = [], [], []
    for span, i in ordered:
        if span in free_gold:
            matches.append((i, free_gold.pop(span)))
        else:
            unmatched.append((span, i))
    for span, i in unmatched:
        hit = next((g for g in free_gold if g[0] < span[1] and span[0] < g[1]), None)
        if hit is not None:
            touches.append((i, free_gold.pop(hit)))
    return Pairing(tuple(matches), tuple(touches))


def largest_matching(n_left: int, n_right: int, fits: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """A one-to-one matching with as many (left, right) pairs as possible (augmenting paths), sorted."""
    edges = [[j for j in range(n_right) if fits(i, j)] for i in range(n_left)]
    partner: dict[int, int] = {}

    def augment(i: int, visited: set[int]) -> bool:
        for j in edges[i]:
            if j not in visited:
                visited.add(j)
                if j not in partner or augment(partner[j], visited):
                    partner[j] = i
                    return True
        return False

    for i in range(n_left):
        augment(i, set())
    return sorted((i, j) for j, i in partner.items())


def heaviest_matching(weights: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The one-to-one (row, column) pairs of largest total weight, sorted; pairs of weight 0 are left out.

    Of equal matchings the first in reading order: row 0 takes the leftmost column that it can, then row 1,
    and so on. Weights are whole numbers >= 0, so that equal means equal. The Hungarian algorithm, by shortest
    augmenting paths, O(rows · columns · min(rows, columns)). (scipy has one; the light core goes without
    scipy, which picks among equals as it likes and takes as long for a matrix of two names.)

    Example:
        >>> heaviest_matching([[2, 2], [2, 2], [0, 3]])  # 2 + 3; row 1 would do as well as row 0
        [(0, 0), (2, 1)]
    """
    edges = [(i, j) for i, row in enumerate(weights) for j, weight in enumerate(row) if weight]
    rows, columns = sorted({i for i, _ in edges}), sorted({j for _, j in edges})
    if len(edges) == len(rows) == len(columns):
        return edges  # no two want the same
    # Below every weight a digit per row, larger for a column further left: no two matchings are equal.
    base, n = len(columns) + 1, len(rows)
    cost = [
        [-w * base**n - (base - 1 - b) * base ** (n - 1 - a) if (w := weights[i][j]) else 0
         for b, j in enumerate(columns)]
        for a, i in enumerate(rows)
    ]  # fmt: skip
    if n <= len(columns):
        pairs = _cheapest_assignment(cost)
    else:
        pairs = [(a, b) for b, a in _cheapest_assignment(list(zip(*cost, strict=True)))]
    return sorted((rows[a], columns[b]) for a, b in pairs if cost[a][b])


def _cheapest_assignment(cost: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """A column for each row at the least total cost, for at least as many columns as rows."""
    n_rows, n_columns, none = len(cost), len(cost[0]), -1
    of_row, of_column = [0] * n_rows, [0] * n_columns  # potentials: no cost is below the sum of its two
    row_of = [none] * n_columns
    for start in range(n_rows):
        row, column, length = start, none, 0
        waiting, reached = set(range(n_columns)), []
        distance: dict[int, int] = {}  # of each column from the row `start`, and the column before it
        before: dict[int, int] = {}
        while column == none or row_of[column] != none:
            if column != none:
                reached.append(column)
                row = row_of[column]
            for j in waiting:
                through = length + cost[row][j] - of_row[row] - of_column[j]
                if j not in distance or through < distance[j]:
                    distance[j], before[j] = through, column
            column = min(waiting, key=distance.__getitem__)
            waiting.remove(column)
            length = distance[column]
        of_row[start] += length
        for j in reached:
            of_row[row_of[j]] += length - distance[j]
            of_column[j] -= length - distance[j]
        while column != none:
            row_of[column] = start if before[column] == none else row_of[before[column]]
            column = before[column]
    return [(row, column) for column, row in enumerate(row_of) if row != none]


def _occurrences(words: str, tokens: Sequence[str], *, glue: str) -> list[Span]:
    """Every token span whose tokens, joined by `glue`, equal `words`, leftmost first."""
    spans = []
    for start in range(len(tokens) if words else 0):
        joined, end = tokens[start], start + 1
        while end < len(tokens) and len(joined) < len(words) and words.startswith(joined):
            joined, end = joined + glue + tokens[end], end + 1
        if joined == words:
            spans.append((start, end))
    return spans
