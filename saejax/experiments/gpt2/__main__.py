"""Dead latents and their revival, monosemanticity, and a viewer of every latent.

python -m saejax.experiments.gpt2 --flagfile=experiments/gpt2/quick.flags

From plain text to labelled latents in five stages: text, language model, activations, dictionaries,
analysis. The language model is GPT-2, or a small one that the study trains itself.
"""

from dataclasses import asdict
from pathlib import Path

from absl import flags

from saejax import report
from saejax.core.machine import machine
from saejax.experiments.common import command, study
from saejax.experiments.common.flagtable import define, define_fields
from saejax.experiments.common.stages import Stages, continued_workdir
from saejax.experiments.gpt2 import claims, labels
from saejax.experiments.language import dictionaries, pretrained, workdirs
from saejax.experiments.language import stages as language_stages
from saejax.interpret.budget import BudgetError
from saejax.interpret.endpoint import ChatError
from saejax.interpret.measurement import stored_text
from saejax.interpret.settings import InterpretSettings
from saejax.interpret.study import Study, analyse
from saejax.lm.model import hook_width
from saejax.lm.recovered import recovery
from saejax.lm.tokenizer import end_of_text, token_texts
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

VIEWERS = ("first", "all", "none")
# Where stages lie, and what the last stage alone reads: may change when an interrupted run goes on.
MAY_CHANGE = (
    *("workdir_lm", "store", "dictionaries", "viewer"),
    *("sample_tokens", "eval_windows", "n_labelled", "least_firings", "label_contexts"),
    *("chat_model", "chat_url", "chat_key_variable", "chat_cache", "chat_answer_tokens"),
    *("chat_max_requests", "chat_max_tokens"),
)

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/gpt2")
language_stages.define(FLAGS, hook="blocks.3.hook_resid_pre")
pretrained.define(FLAGS)
define(FLAGS, list, expansion=(["4", "8", "16", "32"], "d_sae over d_in."))
command.define_training(
    FLAGS, l1=(0.3, 0.2), seeds=("0-2",), lr=(0.003,), steps=2000, eval_every=100
)
command.define_revival(FLAGS, every=500)
dictionaries.define(FLAGS)
DEAD = (
    "A latent that is never above it is dead: on held-out "
    "batches, for resampling and in the viewer."
)
define_fields(
    FLAGS,
    InterpretSettings,
    dead_threshold=DEAD,
    sample_tokens="Tokens of the store on which latents are looked at, about.",
    eval_windows="Windows of validation text for the loss recovered.",
    n_labelled="Latents of highest and of lowest selectivity that are labelled, each.",
    least_firings="A latent that fires less often is not judged.",
    label_contexts="Contexts that a labeller sees, at most.",
)
labels.define(FLAGS)
define(FLAGS, VIEWERS, viewer=("first", "Seeds whose SAEs have pages in the viewer."))


def config() -> tuple[Sweep, Settings, InterpretSettings]:
    """Sweep, its settings and those of the analysis that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    language_stages.source(FLAGS)
    if FLAGS.lm == pretrained.TRAINED:
        language_stages.settings(FLAGS)
    ways, rule = command.revival(FLAGS, FLAGS.dead_threshold)
    analysis = InterpretSettings(**command.given(FLAGS, InterpretSettings))
    with command.flag_names(ratio="expansion"):
        ratio, lr = command.numbers(FLAGS, "expansion"), command.one_number(FLAGS, "lr")
        sweep = study.sweep(FLAGS, ratio=ratio, lr=lr, resample=ways)
    settings = dictionaries.settings(FLAGS, resample=rule)
    pretrained.packing(FLAGS, bos=0)
    if "hook_resid" not in FLAGS.hook:
        raise ValueError(
            f"hook: got {FLAGS.hook!r}, allowed: one of the residual stream (hook_resid_pre, "
            "hook_resid_mid, hook_resid_post), whose latents act on the logits"
        )
    return sweep, settings, analysis


def main(argv: list[str]) -> None:
    """Runs all stages, and leaves report and viewer in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir, stages=True) as until_end:
        sweep, settings, analysis = config()
        asked = labels.chat(FLAGS, Path(FLAGS.workdir), analysis.label_contexts)
        stages = Stages()
        loaded = pretrained.load(FLAGS, stages)
        shape = language_stages.settings(FLAGS)[0] if loaded is None else loaded.model.config
        with command.flag_names(ratio="expansion"):
            plan = dictionaries.planned(FLAGS, hook_width(shape, FLAGS.hook), sweep, settings)
        if FLAGS.dry_run:
            command.dry_run(plan)
            return
        # Only now, since a workdir keeps the flags that it was begun with.
        path = continued_workdir(FLAGS, "gpt2", MAY_CHANGE, until_end)
        folder = Path(FLAGS.workdir_lm or path / "lm")
        corpus = language_stages.text(FLAGS, stages, folder / "text", loaded)
        if loaded is None:
            lm = language_stages.language_model(FLAGS, stages, corpus, folder / "model")
        else:
            lm = pretrained.as_trained(loaded, corpus)
        cut = pretrained.packing(FLAGS, end_of_text(corpus.tokenizer()))
        store_folder = Path(FLAGS.store or path / "store")
        store = language_stages.activations(FLAGS, stages, lm, corpus, store_folder, cut)
        trained = Path(FLAGS.dictionaries or path / "dictionaries")
        result = dictionaries.trained(FLAGS, stages, trained, store, sweep, settings)
        with stages.stage("analysis", path, False) as remarks:
            vocabulary = token_texts(corpus.tokenizer(), lm.model.config.vocab_size)
            text = stored_text(store, vocabulary, analysis.sample_tokens)
            labellers = labels.labellers(asked, text.sample)
            losses = recovery(lm.model, corpus.validation, FLAGS.hook, cut, analysis.eval_windows)
            asked_for = Study(result, lm.model, store, text, labellers, losses, analysis)
            seeds = {"first": sweep.seeds[:1], "all": sweep.seeds, "none": ()}[FLAGS.viewer]
            try:
                found = analyse(asked_for, seeds, path / "viewer")
            except ChatError as error:
                raise ValueError(f"chat_model: {error}") from None
            except BudgetError as error:
                raise ValueError(f"chat_{error}") from None
            remarks.append(f"{len(found.rows['labels'])} labels")
        coords = {"l1": sweep.l1, "expansion": sweep.ratio, "resample": sweep.resample}
        run = {
            "study": {"name": "gpt2", **asdict(analysis)},
            "hook": FLAGS.hook,
            "d_in": store.d,
            "coords": {**coords, "seed": sweep.seeds},
            "d_sae": result.d_sae,
            **language_stages.summary(lm, corpus),
            "packing": asdict(cut),
            "store": {"rows": len(store), "dtype": store.config.dtype, "checksum": store.checksum},
            "sweep": {
                **asdict(settings),
                "lr": sweep.lr[0],
                "held_out": FLAGS.held_out,
                **{name: result.run[name] for name in ("train_seconds", "flops_per_step")},
            },
            "losses": losses.of_the_model(),
            "tokens_looked_at": len(text.rows),
            "labellers": [labeller.describe() for labeller in labellers],
            **machine("flax", "optax"),
            "stages": stages.rows,
        }
        tracked = ("dead_latents", "fvu", "l0")
        history = {f"history/{name}": result.history[name] for name in tracked}
        arrays = {**found.arrays, **history, "steps": result.steps}
        workdirs.write(workdirs.Contents(path, run, arrays, found.rows), claims.of_gpt2(found.rows))
        print(f"report: {report.write(path)}")
        if FLAGS.viewer != "none":
            print(f"viewer: {path / 'viewer' / 'index.html'}")


if __name__ == "__main__":
    command.run(main, FLAGS)
