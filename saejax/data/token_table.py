"""Tables of token activations: for each token a label, a row of numbers and its groups.

A file is UTF-8 text with its fields separated by commas:

    token,groups,x0,x1
    cat,animals,0.8,0.3
    happy cat,animals;variants,0.82,0.32
    robot,artificial,0.0,0.7

The first line is a header. The first column holds the labels, whatever its name. A column named
`groups` is optional; it holds no, one or several names separated by `;`. Every other column holds
numbers. Without `groups`, tokens with one label form a group.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

GROUPS = "groups"


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Activations of named tokens. Two tables are equal where all their parts are.

    Attributes:
        labels: a name for each token, kept to the letter: " cat" and "cat" differ. Names may
            repeat.
        x: the activations, finite.
        groups_of: for each token the names of its groups. A name must not be empty, start or end
            with a space or hold a `;`, except where the groups are the labels.
        columns: a name for each number of a token.

    Raises:
        ValueError: for parts that differ in length, fewer than two tokens, a blank label, a column
            name that is empty, repeated or a number, no group, and a group of all tokens.
    """

    labels: tuple[str, ...]
    x: Float32[np.ndarray, "tokens d_in"]
    groups_of: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.labels)
        if n < 2:
            raise ValueError(f"labels: got {n}, allowed: 2 tokens or more")
        if self.x.shape != (n, len(self.columns)) or self.x.dtype != np.float32:
            raise ValueError(
                f"x: got {self.x.dtype} of shape {self.x.shape}, allowed: float32 of shape "
                f"{(n, len(self.columns))}, a row for each label and a number for each column"
            )
        if not np.isfinite(self.x).all():
            raise ValueError("x: got nan or inf, allowed: finite numbers")
        if len(self.groups_of) != n:
            raise ValueError(
                f"groups_of: got {len(self.groups_of)} entries, allowed: {n}, as labels"
            )
        for label in self.labels:
            _check_label(label, "labels")
        _check_columns(self.columns, "columns")
        _check_groups(self.labels, self.groups_of, "groups_of")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenTable) and (
            self.labels == other.labels
            and self.groups_of == other.groups_of
            and self.columns == other.columns
            and np.array_equal(self.x, other.x)
        )

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Name of each group -> positions of its tokens; groups in order of their first token."""
        positions: dict[str, list[int]] = {}
        for i, names in enumerate(self.groups_of):
            for name in names:
                positions.setdefault(name, []).append(i)
        return {name: tuple(tokens) for name, tokens in positions.items()}

    @property
    def member(self) -> Bool[np.ndarray, "groups tokens"]:
        """Whether a token (column) belongs to a group (row, in the order of `groups`)."""
        return np.array([[name in names for names in self.groups_of] for name in self.groups])


def published() -> TokenTable:
    """The 8 tokens of the text, with 4 numbers each, and the groups it speaks of.

        animals      cat, happy cat, dog, loyal dog
        variants     happy cat, loyal dog
        negations    not cat, not dog
        not animals  not cat, not dog, robot, AI assistant
        artificial   robot, AI assistant

    The text calls its fourth token "energetic dog" in the prose and, as here, "loyal dog" in the
    code. It also speaks of three dimensions where its code has four.

    Source: Xiang (2025), "Sparse AutoEncoder: from Superposition to interpretable features".
    """
    rows = {
        "cat": ((0.8, 0.3, 0.1, 0.05), ("animals",)),
        "happy cat": ((0.82, 0.32, 0.12, 0.06), ("animals", "variants")),
        "dog": ((0.7, 0.2, 0.05, 0.2), ("animals",)),
        "loyal dog": ((0.75, 0.3, 0.1, 0.25), ("animals", "variants")),
        "not cat": ((0.05, 0.9, 0.4, 0.4), ("negations", "not animals")),
        "not dog": ((0.15, 0.85, 0.35, 0.5), ("negations", "not animals")),
        "robot": ((0.0, 0.7, 0.9, 0.8), ("artificial", "not animals")),
        "AI assistant": ((0.1, 0.6, 0.85, 0.75), ("artificial", "not animals")),
    }
    return TokenTable(
        labels=tuple(rows),
        x=np.array([x for x, _ in rows.values()], np.float32),
        groups_of=tuple(groups for _, groups in rows.values()),
        columns=("x0", "x1", "x2", "x3"),
    )


def read_csv(path: str | Path) -> TokenTable:
    """The table in a file; the module's heading says how the file is built.

    Blank lines are skipped, labels are kept to the letter, and numbers are rounded to float32.
    Spaces around column and group names do not count, nor does a byte order mark.

    Raises:
        ValueError: `FILE, line N: got ..., allowed: ...`, N being the line where the record starts:
            for text that is not UTF-8, quotes that do not close, an empty file, a missing or
            unclear header, a ragged line, a field that is not a finite float32, and what
            `TokenTable` refuses.
        OSError: naming the path, where it is missing, a folder or unreadable.
    """
    records = _records(path)
    header, names = next(records, ("", []))
    if not names:
        got = "got an empty file, allowed: a header and 2 tokens or more"
        raise ValueError(f"{path}, line 1: {got}")
    names = [name.strip() for name in names]
    if len(names) == 1 and ";" in names[0]:
        raise ValueError(
            f"{header}: got fields separated by semicolons, allowed: fields separated by commas"
        )
    if names[0] == GROUPS:
        raise ValueError(f"{header}: got {GROUPS!r} as the first column, allowed: the labels first")
    at_groups = names.index(GROUPS) if GROUPS in names else None
    at_numbers = [i for i in range(1, len(names)) if i != at_groups]
    columns = tuple(names[i] for i in at_numbers)
    _check_columns(columns, header)

    labels: list[str] = []
    groups_of: list[tuple[str, ...]] = []
    rows: list[list[np.float32]] = []
    where = header
    for where, fields in records:
        if len(fields) != len(names):
            raise ValueError(
                f"{where}: got {len(fields)} fields, allowed: {len(names)}, as the header"
            )
        _check_label(fields[0], where)
        labels.append(fields[0])
        groups_of.append((fields[0],) if at_groups is None else _split(fields[at_groups]))
        rows.append([_number(fields[i], names[i], where) for i in at_numbers])
    if len(rows) < 2:
        raise ValueError(f"{where}: got an end after {len(rows)} tokens, allowed: 2 tokens or more")
    _check_groups(labels, groups_of, header)
    return TokenTable(tuple(labels), np.array(rows, np.float32), tuple(groups_of), columns)


def to_csv(table: TokenTable) -> str:
    """A table as text from which `read_csv` makes an equal one.

    Numbers have the fewest digits (6 or more) that give the same float32 again. A file must get the
    text as it is (`newline=""`), or line ends inside a label would change.
    """
    by_label = _are_labels(table.labels, table.groups_of)
    out = io.StringIO()
    # Before Python 3.13 a carriage return in a label is quoted only if it occurs in the terminator.
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["label", *([] if by_label else [GROUPS]), *table.columns])
    for label, names, row in zip(table.labels, table.groups_of, table.x, strict=True):
        writer.writerow([label, *([] if by_label else [";".join(names)]), *map(_shortest, row)])
    return out.getvalue()


def to_json(table: TokenTable) -> dict[str, Any]:
    """The table in JSON types, for `from_json`; a float32 survives exactly."""
    return {
        "labels": list(table.labels),
        "x": table.x.tolist(),
        "groups_of": [list(names) for names in table.groups_of],
        "columns": list(table.columns),
    }


def from_json(data: Mapping[str, Any]) -> TokenTable:
    """The table that `to_json` wrote."""
    return TokenTable(
        labels=tuple(data["labels"]),
        x=np.array(data["x"], np.float32),
        groups_of=tuple(tuple(names) for names in data["groups_of"]),
        columns=tuple(data["columns"]),
    )


def _records(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The place where each record starts, for errors, and its fields; blank ones are skipped."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.split(rb"\r\n|\r|\n", error.object[: error.start]))
        got = error.object[error.start : error.start + 1]
        raise ValueError(
            f"{path}, line {line}: got the byte {got!r}, allowed: UTF-8 text"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{where}: got a record that cannot be read ({error}), allowed: fields separated "
                "by commas, quotes that close and have a comma or the end of the line after them"
            ) from error
        if fields is None:
            return
        if len(fields) > 1 or any(field.strip() for field in fields):
            yield where, fields


def _split(field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in field.split(";") if name.strip()))


def _parsed(text: str) -> float | None:
    try:
        # Python reads 1_000 as a number; in a CSV it is a typing error or a name.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _number(field: str, column: str, where: str) -> np.float32:
    value = _parsed(field)
    if value is not None:
        with np.errstate(over="ignore"):
            number = np.float32(value)
        if np.isfinite(number):
            return number
    got = field if len(field) <= 40 else f"{field[:40]}..."
    raise ValueError(
        f"{where}: got {got!r} in column {column!r}, allowed: a finite number that float32 can hold"
    )


def _shortest(number: np.float32) -> str:
    # Reading rounds twice, to float64 and then to float32. Nine digits survive that for every
    # float32; NumPy's shortest form, which is made for one rounding, need not.
    texts = (f"{number:.{digits}g}" for digits in range(6, 10))
    return next(text for text in texts if np.float32(float(text)) == number)


def _check_label(label: str, where: str) -> None:
    if not label.strip():
        raise ValueError(f"{where}: got the blank label {label!r}, allowed: a name")


def _check_columns(columns: Sequence[str], where: str) -> None:
    if not columns:
        raise ValueError(
            f"{where}: got no column of numbers, allowed: at least one, separated by a comma from "
            "the labels"
        )
    for i, name in enumerate(columns):
        taken = name == GROUPS or name in columns[:i]
        if not name or name != name.strip() or _parsed(name) is not None or taken:
            raise ValueError(
                f"{where}: got the column name {name!r}, allowed: a header of distinct names, none "
                f"empty or a number, {GROUPS!r} only for the column of the groups"
            )


def _are_labels(labels: Sequence[str], groups_of: Sequence[tuple[str, ...]]) -> bool:
    return all(names == (label,) for label, names in zip(labels, groups_of, strict=True))


def _check_groups(labels: Sequence[str], groups_of: Sequence[tuple[str, ...]], where: str) -> None:
    if not any(groups_of):
        raise ValueError(
            f"{where}: got no group of tokens, allowed: at least one (without a column {GROUPS!r} "
            "each label is a group)"
        )
    for name in dict.fromkeys(name for names in groups_of for name in names):
        if all(name in names for names in groups_of):
            raise ValueError(
                f"{where}: got the group {name!r} of all {len(groups_of)} tokens, allowed: groups "
                "that leave out at least one token"
            )
    for names in () if _are_labels(labels, groups_of) else groups_of:
        if names != _split(";".join(names)):
            raise ValueError(
                f"{where}: got the groups {names}, allowed: distinct names without ';' and without "
                "spaces around them"
            )
