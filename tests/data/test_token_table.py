"""Token tables: the published one, what a CSV may look like, and where each of its faults is
found."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax.data.token_table import TokenTable, published, read_csv, to_csv

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SMALLEST = np.float32(1e-45)
LARGEST = np.finfo(np.float32).max


@pytest.fixture
def read(tmp_path):
    """Reads text or bytes as a file would be read."""

    def read_text(text):
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_csv(path)

    return read_text


def table(**parts):
    x = np.array([[1.0], [2.0]], np.float32)
    default = {"labels": ("a", "b"), "x": x, "groups_of": (("a",), ("b",)), "columns": ("x",)}
    return TokenTable(**{**default, **parts})


# --- the published table -------------------------------------------------------------------------


def test_the_published_groups():
    t = published()
    names = {group: {t.labels[i] for i in tokens} for group, tokens in t.groups.items()}
    assert names == {
        "animals": {"cat", "happy cat", "dog", "loyal dog"},
        "variants": {"happy cat", "loyal dog"},
        "negations": {"not cat", "not dog"},
        "artificial": {"robot", "AI assistant"},
        "not animals": {"not cat", "not dog", "robot", "AI assistant"},
    }


def test_the_published_numbers():
    t = published()
    assert t.x.shape == (8, 4)
    # Sums of the rows and columns of the text, added up by hand.
    np.testing.assert_allclose(t.x.sum(1), [1.25, 1.32, 1.15, 1.4, 1.75, 1.85, 2.4, 2.3], rtol=1e-6)
    np.testing.assert_allclose(t.x.sum(0), [3.37, 4.17, 2.87, 3.01], rtol=1e-6)


def test_members_are_the_positions_of_the_groups():
    t = published()
    assert t.member.dtype == bool
    assert [tuple(np.flatnonzero(row)) for row in t.member] == list(t.groups.values())


# --- reading -------------------------------------------------------------------------------------


def test_reading_a_table_with_groups(read):
    t = read("name,b,groups,a\ncat,1,pet;animal,-2.5e-3\ndog,3, animal ; ,4\nrobot, 5 ,,6\n")
    assert t.labels == ("cat", "dog", "robot")
    assert t.columns == ("b", "a")
    np.testing.assert_array_equal(t.x, np.array([[1, -0.0025], [3, 4], [5, 6]], np.float32))
    assert t.groups == {"pet": (0,), "animal": (0, 1)}
    assert t.groups_of == (("pet", "animal"), ("animal",), ())


def test_without_groups_equal_labels_form_one(read):
    t = read("name,x\ncat,1\ndog,2\ncat,3\n")
    assert t.groups == {"cat": (0, 2), "dog": (1,)}


def test_labels_are_kept_to_the_letter(read):
    labels = [" cat", "cat", 'a "b"', "a,b", "a\r\nb", "猫"]
    quoted = [label.replace('"', '""') for label in labels]
    t = read("name,x\n" + "".join(f'"{label}",1\n' for label in quoted))
    assert list(t.labels) == labels


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_count(read, end, mark):
    text = end.join(["", "name,groups,x", "", "cat,g,1", "  ", "dog,,2", "", ""])
    expected = read("name,groups,x\ncat,g,1\ndog,,2")
    assert read(mark + text.encode()) == expected


def test_the_first_column_may_be_unnamed_as_pandas_writes_it(read):
    assert read(",x\ncat,1\ndog,2\n") == read("name,x\ncat,1\ndog,2\n")


HEADER = "name,groups,x,y\n"
ROWS = HEADER + "cat,g,1,2\n"
FAULTS = {
    "empty": ("", 1, "got an empty file"),
    "blank": ("\n  \n\n", 1, "got an empty file"),
    "only a mark": (b"\xef\xbb\xbf", 1, "got an empty file"),
    "header only": (HEADER, 1, "got an end after 0 tokens, allowed: 2"),
    "one token": (ROWS + "\n", 2, "got an end after 1 tokens, allowed: 2"),
    "no header": ("cat,0.8,0.3\ndog,1,2\n", 1, "got the column name '0.8', allowed: a header"),
    "no header below a blank line": ("\ncat,0.8\ndog,1\n", 2, "got the column name '0.8'"),
    "unnamed column": ("name,x,\ncat,1,2\ndog,1,2", 1, "got the column name ''"),
    "repeated column": ("name,x, x\ncat,1,2\ndog,1,2", 1, "got the column name 'x'"),
    "repeated groups": ("name,groups,x,groups\ncat,a,1,b\ndog,a,2,b", 1, "column name 'groups'"),
    "groups first": ("groups,x\ncat,1\ndog,2", 1, "got 'groups' as the first column"),
    "labels only": ("name\ncat\ndog", 1, "got no column of numbers"),
    "groups only": ("name,groups\ncat,a\ndog,b", 1, "got no column of numbers"),
    "semicolons": (
        "name;x;y\ncat;0,8;1\ndog;1;2",
        1,
        "separated by semicolons, allowed: .* commas",
    ),
    "quoted semicolons": ('"name";"x"\n"cat";1\n"dog";2', 1, "allowed: fields separated by commas"),
    "short line": (ROWS + "dog,g,1\n", 3, "got 3 fields, allowed: 4"),
    "long line": (ROWS + "\n\ndog,g,1,2,\n", 5, "got 5 fields, allowed: 4"),
    "commas only": (ROWS + "dog,,3,4\n,,,\n", 4, "got the blank label ''"),
    "no label": (ROWS + ",g,1,2\n", 3, "got the blank label ''"),
    "blank label": (ROWS + '" ",g,1,2\n', 3, "got the blank label ' '"),
    "word": (ROWS + "dog,g,1,two\n", 3, "got 'two' in column 'y', allowed: a finite number"),
    "nothing": (ROWS + "dog,g,,2\n", 3, "got '' in column 'x'"),
    "decimal comma": (ROWS + 'dog,g,"0,5",2\n', 3, "got '0,5' in column 'x'"),
    "underscore": (ROWS + "dog,g,1_0,2\n", 3, "got '1_0' in column 'x'"),
    "long word": (ROWS + f"dog,g,1,{'z' * 99}\n", 3, f"got '{'z' * 40}...' in column 'y'"),
    "nan": (ROWS + "dog,g,nan,2\n", 3, "got 'nan' in column 'x'"),
    "inf": (ROWS + "dog,g,1,-inf\n", 3, "got '-inf' in column 'y'"),
    "too large": (ROWS + "dog,g,1,3.5e38\n", 3, "got '3.5e38' in column 'y', .* float32"),
    "open quote": (ROWS + 'dog,g,1,2\n"fox,g,1,2\ncow,g,1,2\n', 4, "allowed: .*quotes that close"),
    "text after a quote": (ROWS + '"dog" x,g,1,2\n', 3, "allowed: .*quotes that close"),
    "after a long label": (HEADER + '"a\nb\nc",g,1,2\ndog,g,1,-\n', 5, "got '-'"),
    "in a long label": (ROWS + '"a\n\nb",g,1,-\n', 3, "got '-'"),
    "after Windows ends": (ROWS.replace("\n", "\r\n") + "dog,g,1,-\r\n", 3, "got '-'"),
    "not UTF-8": (ROWS.encode() + b"dog,g,1,2\nk\xe4fer,g,1,2\n", 4, r"got the byte b'\\xe4'"),
    "not UTF-8 after a mark": (b"\xef\xbb\xbfname,x\n\xe4,1", 2, r"got the byte b'\\xe4'"),
    "UTF-16": (ROWS.encode("utf-16"), 1, "allowed: UTF-8 text"),
    "no group": (
        "name,groups,x\ncat,,1\ndog, ; ,2",
        1,
        "got no group of tokens, allowed: at least",
    ),
    "group of all": ("name,groups,x\ncat,a,1\ndog,b;a,2", 1, "got the group 'a' of all 2 tokens"),
    "one label": ("name,x\ncat,1\ncat,2", 1, "got the group 'cat' of all 2 tokens"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_on_its_line(read, tmp_path, fault):
    text, line, message = FAULTS[fault]
    start = re.escape(f"{tmp_path / 'table.csv'}, line {line}: got ")
    with pytest.raises(ValueError, match=f"(?s)^{start}.*, allowed: ") as error:
        read(text)
    assert re.search(message, str(error.value)), error.value


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_path_without_a_file_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(OSError, match=re.escape(str(path))):
        read_csv(str(path))


# --- writing -------------------------------------------------------------------------------------

words = st.text(max_size=6) | st.sampled_from(
    [" cat", "a,b", 'say "hi"', "a\nb", "a\rb", "a;b", "猫"]
)
labels = words.filter(str.strip)
names = words.map(lambda text: text.replace(";", "").strip()).filter(bool)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def parts_of_tables(draw):
    d_in = draw(st.integers(1, 3))
    columns = st.text('xy," \n', max_size=4).map(lambda text: f"x{text}y")
    rows = draw(st.lists(st.tuples(labels, *[numbers] * d_in), min_size=2, max_size=5))
    own = tuple(row[0] for row in rows)
    groups_of = tuple((label,) for label in own)
    if draw(st.booleans()) or len(set(own)) == 1:
        pool = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        cell = st.lists(st.sampled_from(pool), unique=True).map(tuple)
        # The first token has a group, the last none: some group, and none of all tokens.
        groups_of = ((pool[0],), *(draw(cell) for _ in rows[2:]), ())
    x = np.array([row[1:] for row in rows], np.float32)
    names_of_columns = draw(st.lists(columns, min_size=d_in, max_size=d_in, unique=True))
    return own, x, groups_of, tuple(names_of_columns)


@quick
@given(parts_of_tables())
def test_what_was_written_is_read_again(tmp_path_factory, parts):
    t = TokenTable(*parts)
    path = tmp_path_factory.getbasetemp() / "again.csv"
    path.write_text(to_csv(t), encoding="utf-8", newline="")
    again = read_csv(path)
    assert again == t
    assert list(again.groups) == list(t.groups)


def test_the_published_table_is_written_as_it_is_printed(read):
    text = to_csv(published())
    assert text.splitlines()[:3] == [
        "label,groups,x0,x1,x2,x3",
        "cat,animals,0.8,0.3,0.1,0.05",
        "happy cat,animals;variants,0.82,0.32,0.12,0.06",
    ]
    assert read(text) == published()


def test_groups_that_are_the_labels_are_not_written():
    assert to_csv(table()).split() == ["label,x", "a,1", "b,2"]


def test_every_float32_survives(read):
    bits = np.random.default_rng(0).integers(0, 2**32, 3000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], [LARGEST, -LARGEST, SMALLEST, np.float32(0.1)]])
    labels = tuple(map(str, range(len(x))))
    t = table(labels=labels, x=x[:, None], groups_of=tuple((name,) for name in labels))
    np.testing.assert_array_equal(read(to_csv(t)).x, x[:, None])


# --- a table made by hand ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        {"labels": ("a", "c"), "groups_of": (("a",), ("b",))},
        {"x": np.array([[1.0], [3.0]], np.float32)},
        {"groups_of": (("b",), ("a",))},
        {"columns": ("y",)},
    ],
)
def test_tables_that_differ_in_one_part_are_not_equal(parts):
    assert table() == table()
    assert table(**parts) != table()


def test_a_table_is_equal_to_tables_only():
    assert table() != "table"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"labels": ("a",)}, "labels: got 1, allowed: 2 tokens or more"),
        ({"labels": ("a", "\n")}, r"labels: got the blank label '\\n', allowed: "),
        (
            {"x": np.ones((2, 1))},
            r"x: got float64 of shape \(2, 1\), allowed: float32 of shape \(2, 1\)",
        ),
        ({"x": np.ones((2, 2), np.float32)}, r"x: got float32 of shape \(2, 2\), allowed: "),
        (
            {"x": np.array([[1], [np.nan]], np.float32)},
            "x: got nan or inf, allowed: finite numbers",
        ),
        ({"groups_of": (("a",),)}, "groups_of: got 1 entries, allowed: 2"),
        ({"groups_of": ((), ())}, "groups_of: got no group of tokens, allowed: at least one"),
        (
            {"groups_of": (("g",), ("g",))},
            "groups_of: got the group 'g' of all 2 tokens, allowed: ",
        ),
        ({"groups_of": (("g;h",), ())}, "groups_of: got the groups .*, allowed: .* without ';'"),
        ({"groups_of": ((" g",), ())}, "groups_of: got the groups .*, allowed: "),
        ({"groups_of": (("",), ())}, "groups_of: got the groups .*, allowed: "),
        ({"groups_of": (("g", "g"), ())}, "groups_of: got the groups .*, allowed: distinct"),
        ({"columns": ("groups",)}, "columns: got the column name 'groups', allowed: "),
        ({"columns": (" x",)}, "columns: got the column name ' x', allowed: "),
        ({"columns": ("1e3",)}, "columns: got the column name '1e3', allowed: "),
        ({"columns": (), "x": np.ones((2, 0), np.float32)}, "columns: got no column of numbers"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_table_refuses(parts, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        table(**parts)
