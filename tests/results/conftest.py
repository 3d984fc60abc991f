"""What the tests of workdirs share."""

import pytest
from helpers.runs import FLAGS, SETTINGS, SPEC, STUDY, SWEEP

from saejax import train
from saejax.results.workdir import RunLog


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    return path, train(
        SWEEP, SPEC, SETTINGS, workdir=path, progress=False, flags=FLAGS, study=STUDY
    )


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The same run, ended by Ctrl-C once its second evaluation is written."""
    path = tmp_path_factory.mktemp("interrupted")
    write, calls = RunLog.evaluation, []

    def evaluation(self, *args):
        write(self, *args)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "evaluation", evaluation)
        with pytest.raises(KeyboardInterrupt):
            train(SWEEP, SPEC, SETTINGS, workdir=path, progress=False, flags=FLAGS)
    return path
