"""The table of metrics: every metric once, in the orders that tables and reports show."""

from saejax.metrics.catalogue import (
    CATALOGUE,
    COMPARED,
    HEATMAPS,
    LARGER_IS_BETTER,
    METRICS,
    SUMMED,
    TRACKED,
    described,
)


def test_every_metric_has_one_row_that_says_what_it_is():
    names = [row.name for row in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(row.title and row.note and row.meaning for row in CATALOGUE)
    for chosen in ([row.heatmap for row in CATALOGUE], [row.compared for row in CATALOGUE]):
        places = sorted(filter(None, chosen))
        assert places == list(range(1, len(places) + 1))


def test_columns_heat_maps_and_curves_keep_their_order():
    assert tuple(LARGER_IS_BETTER) == METRICS
    assert METRICS[:6] == ("mmcs_true_to_dict", "mmcs_dict_to_true", "mse", "l1_loss", "l0", "fvu")
    assert METRICS[-5:] == ("mcc", "uniqueness", "precision", "recall", "f1")
    assert HEATMAPS == ("mmcs_true_to_dict", "mse", "mmcs_to_next_larger", "dead_latents")
    assert COMPARED == ("mmcs_true_to_dict", "mcc", "f1", "fvu")
    assert tuple(TRACKED) == ("dead_latents", "learned", "unlearned", "kept", "moved")
    assert SUMMED == ("learned", "unlearned")


def test_a_users_metric_is_titled_by_its_name():
    assert described("fvu").title == "Fraction of variance unexplained"
    assert described("mine")[:2] == ("mine", "mine")
    assert described("mine").larger_is_better is None
