"""What the tests of the export share."""

from copy import deepcopy

import numpy as np
import pytest
from helpers.exported import CELLS, COORDS, RUN, SHAPE, params
from helpers.sae_folders import FORMATS, NEEDS_TORCH
from helpers.saes import D_SAE

from saejax.results.axes import ABSENT
from saejax.results.result import Result
from saejax.results.workdir import RunLog


@pytest.fixture
def result():
    frozen_at = np.full(SHAPE, ABSENT)
    fvu = np.full(SHAPE, np.nan)
    for number, (s, l1, a, k) in enumerate(sorted(CELLS)):
        frozen_at[0, s, 0, l1, 0, 0, a, k] = -1
        fvu[0, s, 0, l1, 0, 0, a, k] = 0.5 - number / 20
    frozen_at[0, 1, 0, 0, 0, 0, 1, 1] = 12
    final = {"fvu": fvu, "l0": fvu * 10, "frozen_at": frozen_at}
    return Result(
        coords=COORDS,
        d_sae=(D_SAE,),
        run=deepcopy(RUN),
        steps=np.array([10, 20]),
        history={name: np.stack([a, a]) for name, a in final.items()},
        final=final,
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=params,
    )


@pytest.fixture
def workdir(result, tmp_path):
    with RunLog(tmp_path / "run", result.run, None) as log:
        log.finish(result)
    return tmp_path / "run"


@pytest.fixture(params=FORMATS)
def format(request):
    if request.param == "dictionary_learning":
        pytest.importorskip("torch", reason=NEEDS_TORCH)
    return request.param
