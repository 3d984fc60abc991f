"""A feature of the viewer in a real Chromium without a window, from files and no network."""

import numpy as np
import pytest
from helpers.browser import CHROMIUM, DRIVER, NAME, Page, webdriver
from helpers.viewer_boards import HOSTILE

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium with its chromedriver on the path"
)


# ------------------------------------------------------------------------------------ what is shown


def test_the_first_of_the_list_opens_where_the_address_asks_for_none(page, boards):
    page.open(f"{NAME}.html")
    best = int(np.nanargmax(boards[0].selectivity))
    page.until(lambda: page.text(".heading h2 .number") == f"#{best}")
    assert page.listed()[0] == best
    assert page.found() == 300
    assert page.text("#sae") == NAME


def test_a_feature_shows_everything_that_is_known_of_it(page, boards):
    made = boards[0]
    page.open(f"{NAME}.html#feature=130")
    page.shows(130)
    stats = dict(zip(page.texts(".stats dt"), page.texts(".stats dd"), strict=True))
    density = f"{float(f'{made.firings[130] / 20:.3g}'):g} %"
    assert stats["density"] == density
    assert stats["firings"] == str(made.firings[130])
    for name, column in (("max", "highest"), ("mean", "mean"), ("selectivity", "selectivity")):
        assert float(stats[name]) == pytest.approx(getattr(made, column)[130], rel=1e-3)
    assert page.texts(".card h3") == [
        f"Activations, density {density}",
        "Effect on next-token logits",
        "Your note",
        "Correlated features",
        "Nearest decoder rows",
        "In the other SAEs",
    ]
    bars = page.texts(".cards .card:first-child svg rect title")
    assert [int(t.split(": ")[1].split()[0]) for t in bars] == [n for n in made.histogram[130] if n]
    n_bars = len(page.all(".cards .card:nth-child(2) svg rect"))
    assert n_bars == np.count_nonzero(made.effects.histogram[130])
    gains = [float(t[1:]) for t in page.texts(".tokens.gain li > span")]
    np.testing.assert_allclose(gains, made.effects.gains[130], rtol=6e-3)
    related = [int(t[1:]) for t in page.texts(".related a .number")]
    known = [i for i in made.correlated.latents[130] if i >= 0]
    assert related == [*known, *made.neighbours.latents[130], made.elsewhere[0].latents[130]]


def shown_context(made, latent, slot):
    """Texts and activations of a context by the dashboard itself."""
    row, at = made.rows[latent, slot], made.before
    pairs = []
    for offset in range(-made.before, made.after + 1):
        if 0 <= row % 50 + offset < 50:
            token = made.sample.vocabulary[made.sample.tokens[row + offset]]
            pairs.append((token, made.activations[latent, slot, at + offset], offset == 0))
    return pairs


def test_contexts_show_every_token_its_activation_and_the_one_that_fires(page, boards):
    made = boards[0]
    # A context at the beginning of a sequence is cut.
    latent = next(i for i in range(10, 300) if made.rows[i, 0] % 50 < 3)
    page.open(f"{NAME}.html#feature={latent}")
    page.shows(latent)
    assert page.texts(".group h4 bdi") == ["strongest", "half of the highest", "at random"]
    lines = page.run(
        "const token = (t) => [t.textContent, Number(t.dataset.value), t.tagName === 'MARK', "
        "Number(t.style.getPropertyValue('--a'))];"
        "return [...document.querySelectorAll('.group li')].map("
        "(li) => [...li.querySelectorAll('.t')].map(token))"
    )
    slots = [slot for slot in range(14) if made.rows[latent, slot] >= 0]
    assert len(lines) == len(slots)
    highest = float(made.highest[latent])
    plain = set(made.sample.vocabulary) - set(HOSTILE) - {"  "}
    for line, slot in zip(lines, slots, strict=True):
        expected = shown_context(made, latent, slot)
        assert len(line) == len(expected)
        for (text, value, fires, shade), (token, activation, is_at) in zip(
            line, expected, strict=True
        ):
            assert fires == is_at
            assert value == pytest.approx(float(activation), abs=highest / 255)
            assert shade == pytest.approx(value / highest, abs=1e-3)
            assert text == token or token not in plain


def test_what_cannot_be_seen_is_shown_as_signs(page, boards):
    page.open(f"{NAME}.html#feature=20")
    page.shows(20)
    seen = {
        "\n": "↵",
        "\t": "⇥",
        "": "∅",
        "  ": "··",
        "\ud800": "⟨U+D800⟩",
        "\u202eevil": "⟨U+202E⟩evil",
        "nul\0nul": "nul⟨U+0000⟩nul",
        "\u2028\u2029": "⟨U+2028⟩⟨U+2029⟩",
        " the": "·the",
    }
    chips = page.run(
        "return [...document.querySelectorAll('.tokens .chip')].map((e) => e.textContent)"
    )
    effects, vocabulary = boards[0].effects, boards[0].sample.vocabulary
    ids = [*effects.promoted[20], *effects.suppressed[20]]
    for shown, token in zip(chips, (vocabulary[i] for i in ids), strict=True):
        assert shown == seen.get(token, token.replace(" ", "·") if token not in HOSTILE else token)
    shown = set()
    for _ in range(12):
        shown |= set(page.texts(".t"))
        page.keys("body", "j")
    assert {"↵", "⇥", "∅", "··", "⟨U+D800⟩", "⟨U+202E⟩evil"} <= shown


def test_the_pointer_over_a_token_says_text_id_and_activation(page, boards):
    page.open(f"{NAME}.html#feature=12")
    page.shows(12)
    webdriver.ActionChains(page.browser).move_to_element(page.one("mark.t")).perform()
    page.until(lambda: page.run("return !document.getElementById('hint').hidden"))
    id_ = boards[0].sample.tokens[boards[0].rows[12, 0]]
    assert f"token id {id_}" in page.text("#hint")
    assert f"activation {boards[0].highest[12]:.3g}" in page.text("#hint")


def test_dead_features_say_so(page):
    page.open(f"{NAME}.html#feature=3")
    page.shows(3)
    assert page.text(".dead-notice") == (
        "Dead: never above 0.07. It is not active anywhere on this text."
    )
    assert "never above 0" in page.text(".contexts")
    assert page.all("#rows [aria-selected=true] .tag.dead")
    page.open(f"{NAME}.html#feature=5")
    page.shows(5)
    assert page.text(".dead-notice") == (
        "Dead: never above 0.07. Its highest activation on this text is 0.05."
    )
    assert page.all(".contexts li")
    page.open(f"{NAME}.html#feature=6")
    page.shows(6)
    assert not page.all(".dead-notice")


def test_labels_are_shown_with_their_labeller_and_polysemantic_ones_as_such(page):
    for latent, label in ((9, "capital cities"), (8, "POLYSEMANTIC"), (10, "no label")):
        page.open(f"{NAME}.html#feature={latent}")
        page.shows(latent)
        assert page.text(".heading h2 .name") == label
        by = None if latent == 10 else "labelled by statistics"
        assert page.text(".heading .by") == by


# ------------------------------------------------------------------------------ hostile texts


def test_hostile_texts_are_shown_and_never_run(page):
    page.open(f"{NAME}.html#feature=7")
    page.shows(7)
    assert page.text(".heading h2 .name").startswith(HOSTILE[0] + HOSTILE[1])
    assert page.text(".heading .by") == "labelled by <b>labeller</b>"
    everything = set()
    for _ in range(12):
        everything |= set(page.texts(".t"))
        page.keys("body", "j")
    assert set(HOSTILE[:4]) <= everything
    page.search("onerror")
    page.keys("#note", HOSTILE[1])
    assert page.run("return document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert page.run("return document.querySelectorAll('script:not([type])').length") == 1
    assert not [
        a for a in page.run("return [...document.links].map((a) => a.href)") if "script:" in a
    ]


def test_script_that_got_into_a_page_would_not_run_nor_reach_the_network(chromium, folder):
    page = Page(chromium, folder)
    page.open(f"{NAME}.html#feature=7")
    page.shows(7)
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s); const d = document.createElement('div');"
        "d.innerHTML = '<img src=x onerror=\"window.hacked = 2\">'; document.body.append(d);"
    )
    answer = chromium.execute_async_script(
        "const done = arguments[0];"
        "fetch('https://example.org').then(() => done('reached'), () => done('refused'))"
    )
    assert answer == "refused"
    assert page.run("return window.hacked === undefined")
    refused = [entry["message"] for entry in chromium.get_log("browser")]
    assert any("script-src" in message for message in refused)
    assert any("connect-src" in message or "default-src" in message for message in refused)
