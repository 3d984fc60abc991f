"""The command of the tokens study, its tables and its page."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from helpers import commands

from saejax import report
from saejax.data.token_table import published
from saejax.experiments.common import command
from saejax.experiments.tokens import __main__ as tokens
from saejax.experiments.tokens import page as page_of_tokens

# The two large coefficients look alike to two digits. The low purity lets some seeds have own
# latents.
L1 = ("0.001", "0.101", "0.104")
TINY = [
    f"--l1={','.join(L1)}",
    "--seeds=0-2",
    "--d_sae=6",
    "--steps=60",
    "--eval_every=30",
    "--own_purity=0.7",
]


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of every picture of responses, which is drawn all the same."""
    arguments_of, draw = [], page_of_tokens.figures.responses

    def responses(*arguments):
        arguments_of.append(arguments)
        return draw(*arguments)

    monkeypatch.setattr(page_of_tokens.figures, "responses", responses)
    return arguments_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "run"
    return path, commands.start("tokens", *TINY, f"--workdir={path}")


@pytest.fixture(scope="module")
def activations(finished):
    """[seed, l1, tokens, d_sae] by the equation, from the weights in the workdir."""
    x = published().x.astype(float)
    h = np.empty((3, 3, 8, 6))
    for s, j in np.ndindex(3, 3):
        with np.load(
            finished[0] / "dictionaries" / f"tokens_seed-{s}_ratio-1.5_l1-{L1[j]}.npz"
        ) as w:
            h[s, j] = np.maximum((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    return h


def judged(h, tokens_of_group):
    """Whether a latent [tokens] separates a group, its purity and its gap."""
    inside = np.isin(np.arange(len(h)), tokens_of_group)
    lowest, highest = h[inside].min(), h[~inside].max()
    return lowest > highest, h[inside].sum() / h.sum(), (lowest - highest) / h.max()


def wilson(p, n, z=1.959963984540054):
    """The interval's closed form."""
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0, middle - half), min(1, middle + half)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def freeze(path, to, cells):
    """A copy of a finished run, some of its cells frozen as not finite."""
    to.mkdir()
    for name in ("run.json", "metrics.jsonl"):
        shutil.copy(path / name, to / name)
    shutil.copytree(path / "dictionaries", to / "dictionaries")
    with np.load(path / "results.npz") as file:
        arrays = dict(file)
    arrays["final/frozen_at"][cells] = 7
    np.savez(to / "results.npz", **arrays)
    return to


# ---------------------------------------------------------------------------------------- a run


def test_the_command_leaves_tables_pictures_and_a_page(finished):
    path, out = finished
    assert out.returncode == 0, out.stderr
    assert {p.name for p in path.iterdir()} == {
        "run.json",
        "config.flags",
        "metrics.jsonl",
        "results.csv",
        "results.npz",
        "dictionaries",
        "figures",
        "tables",
        "report.html",
    }
    assert {p.name for p in (path / "tables").iterdir()} == {
        "groups.csv",
        "latents.csv",
        "tokens.csv",
    }
    figures = {p.name for p in (path / "figures").iterdir()}
    assert figures == {"own_latents.png", "responses.png", "against_l1.png"}
    page = (path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>\s]+)", page)
    assert [source.partition(",")[0] for source in sources] == ["data:image/png;base64"] * 3
    assert "did not finish" not in page
    assert out.stdout == f"report: {path / 'report.html'}\n"
    assert "Traceback" not in out.stderr


def test_every_share_of_seeds_by_hand(finished, activations):
    path, _ = finished
    groups = published().groups
    rows = rows_of(path / "tables" / "groups.csv")
    assert [(row["l1"], row["group"]) for row in rows] == [
        (l1, name) for l1 in L1 for name in groups
    ]
    shares = []
    for row in rows:
        own = np.zeros((3, 6), bool)
        for s, i in np.ndindex(own.shape):
            h = activations[s, L1.index(row["l1"]), :, i]
            if h.max() > 0:
                separates, purity, _ = judged(h, groups[row["group"]])
                own[s, i] = separates and purity >= 0.7
        share = own.any(1).mean()
        low, high = wilson(share, 3)
        assert int(row["seeds"]) == 3
        assert float(row["share_with_own_latent"]) == pytest.approx(share, abs=1e-6)
        assert float(row["low"]) == pytest.approx(low, abs=1e-6)
        assert float(row["high"]) == pytest.approx(high, abs=1e-6)
        assert float(row["mean_own_latents"]) == pytest.approx(own.sum() / 3, abs=1e-6)
        shares.append(share)
    assert len({*shares}) > 2, "the run is too short to tell groups apart"


def test_every_live_latent_has_one_row(finished, activations):
    rows = rows_of(finished[0] / "tables" / "latents.csv")
    found = [(int(row["seed"]), L1.index(row["l1"]), int(row["latent"])) for row in rows]
    live = [tuple(at) for at in np.argwhere((activations > 0).any(2)).tolist()]
    assert sorted(found) == live
    assert len(live) < 3 * 3 * 6, "no latent died"


def test_what_a_latent_separates_by_hand(finished, activations):
    groups, labels = published().groups, published().labels
    rows = rows_of(finished[0] / "tables" / "latents.csv")
    for row in rows:
        h = activations[int(row["seed"]), L1.index(row["l1"]), :, int(row["latent"])]
        found = {name: judged(h, members) for name, members in groups.items()}
        separated = {name: (purity, gap) for name, (yes, purity, gap) in found.items() if yes}
        assert float(row["max_activation"]) == pytest.approx(h.max(), abs=1e-5)
        assert {*row["responds_to"].split(", ")} == {
            labels[t] for t in np.flatnonzero(h >= h.max() / 2)
        }
        if separated:
            best = max(separated, key=lambda name: separated[name][0])
            assert row["separates"] == best
            purity, gap = separated.pop(best)
            assert float(row["purity"]) == pytest.approx(purity, abs=1e-5)
            assert float(row["gap"]) == pytest.approx(gap, abs=1e-4)
            assert row["own"] == str(purity >= 0.7)
            assert all(f"{name} (" in row["also_separates"] for name in separated)
        else:
            assert (row["separates"], row["purity"], row["own"]) == ("", "", "False")
    assert len({row["own"] for row in rows if row["separates"]}) == 2


def test_the_tokens_stand_in_a_table(finished):
    rows = rows_of(finished[0] / "tables" / "tokens.csv")
    assert [row["token"] for row in rows] == list(published().labels)
    assert rows[1] == {
        "token": "happy cat",
        "groups": "animals, variants",
        "x0": "0.82",
        "x1": "0.32",
        "x2": "0.12",
        "x3": "0.06",
    }


def test_a_page_made_again_is_the_same_to_the_byte(finished):
    path, _ = finished
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    shutil.rmtree(path / "figures")
    shutil.rmtree(path / "tables")
    (path / "report.html").unlink()
    report.write(path)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


def test_responses_are_those_of_the_first_seed(finished, activations, tmp_path, drawn):
    report.write(freeze(finished[0], tmp_path / "run", cells=np.s_[:0]))
    ((panels, names, labels),) = drawn
    assert tuple(labels) == published().labels
    assert [title.split(":")[0] for title in panels] == [f"L1 {l1}" for l1 in L1]
    for j, (h, latents) in enumerate(zip(panels.values(), names, strict=True)):
        expected = activations[0, j][:, [int(name) for name in latents]]
        np.testing.assert_allclose(h, expected, atol=1e-5)
        assert len(latents) == (activations[0, j] > 0).any(0).sum()


def test_the_flags_of_a_run_describe_it_again(finished, parse):
    path, _ = finished
    parse(*TINY, f"--workdir={path}")
    expected = tokens.config()
    parse(f"--flagfile={path / 'config.flags'}")
    assert tokens.config() == expected
    assert command.flagfile(tokens.FLAGS) == (path / "config.flags").read_text()


# ---------------------------------------------------------------------------------------- mishaps


def test_an_interrupted_run_has_a_page_without_latents(finished, tmp_path):
    run = json.loads((finished[0] / "run.json").read_text()) | {"finished": False}
    (tmp_path / "run.json").write_text(json.dumps(run))
    lines = (finished[0] / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:9]))
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "This run did not finish: it was measured up to step 30 of 60" in page
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"against_l1.png"}
    assert "own latent" not in page


@pytest.mark.filterwarnings("error")
def test_frozen_cells_are_left_out(finished, tmp_path, activations):
    # All of the first seed, one of the second, and a whole coefficient.
    cells = np.zeros((1, 3, 1, 3, 1, 1), bool)
    cells[0, 0], cells[0, 1, 0, 0], cells[0, :, 0, 1] = True, True, True
    path = freeze(finished[0], tmp_path / "run", cells)
    page = report.write(path).read_text(encoding="utf-8")
    assert page.count("was not finite at step 7") == 6
    rows = rows_of(path / "tables" / "groups.csv")
    assert {(row["l1"], row["seeds"]) for row in rows} == {("0.001", "1"), ("0.104", "2")}
    rows = rows_of(path / "tables" / "latents.csv")
    assert {(row["seed"], row["l1"]) for row in rows} == {
        ("1", "0.104"),
        ("2", "0.001"),
        ("2", "0.104"),
    }
    assert "Seed 1 is shown" in page


@pytest.mark.filterwarnings("error")
def test_a_run_in_which_every_cell_froze_still_has_a_page(finished, tmp_path):
    path = freeze(finished[0], tmp_path / "run", cells=np.s_[:])
    page = report.write(path).read_text(encoding="utf-8")
    assert "Every SAE was frozen: there are no latents to look at." in page
    assert {p.name for p in (path / "figures").iterdir()} == {"against_l1.png"}


@pytest.mark.filterwarnings("error")
def test_a_run_in_which_every_latent_died_still_has_a_page(finished, tmp_path):
    path = freeze(finished[0], tmp_path / "run", cells=np.s_[:0])
    for file in (path / "dictionaries").iterdir():
        with np.load(file) as weights:
            np.savez(file, **(dict(weights) | {"b_enc": weights["b_enc"] - 100}))
    page = report.write(path).read_text(encoding="utf-8")
    assert {p.name for p in (path / "figures").iterdir()} == {"against_l1.png", "own_latents.png"}
    shares = {row["share_with_own_latent"] for row in rows_of(path / "tables" / "groups.csv")}
    assert shares == {"0"}
    assert rows_of(path / "tables" / "latents.csv") == []
    assert "Traceback" not in page


# ---------------------------------------------------------------------------------------- own
# tables


@pytest.fixture(scope="module")
def wide():
    """50 tokens, each a group of its own; a column is called like a heading of the page."""
    rng = np.random.default_rng(0)
    lines = [f"<t{i}>,{a:.3f},{b:.3f}" for i, (a, b) in enumerate(rng.uniform(size=(50, 2)))]
    return "\n".join(["name,token,b", *lines])


@pytest.mark.filterwarnings("error")
def test_a_users_table_with_many_tokens_and_groups(wide, tmp_path, parse, capsys, drawn):
    table, path = tmp_path / "my.csv", tmp_path / "run"
    table.write_text(wide)
    few = ["--l1=0.01", "--seeds=5", "--d_sae=3", "--steps=2", "--eval_every=2"]
    tokens.main(parse(*few, f"--table={table}", f"--workdir={path}"))
    assert capsys.readouterr().out == f"report: {path / 'report.html'}\n"
    page = (path / "report.html").read_text(encoding="utf-8")
    assert "The first 24 of 50 groups." in page
    assert "The first 48 tokens." in page
    ((panels, _, labels),) = drawn
    assert {len(h) for h in panels.values()} == {len(labels)} == {48}
    assert "<t1>" not in page
    assert "<td>&lt;t49&gt;</td>" in page
    with (path / "tables" / "tokens.csv").open(newline="") as file:
        head, first, *_ = csv.reader(file)
    assert head == ["", "groups", "token", "b"]
    assert [first[0], float(first[2]), float(first[3])] == ["<t0>", 0.637, 0.27]
    assert len(rows_of(path / "tables" / "groups.csv")) == 50
    run = json.loads((path / "run.json").read_text())
    assert run["settings"]["batch_size"] == run["data"]["tokens"]["rows"] == 50
    assert f"--table={table}" in (path / "config.flags").read_text()
