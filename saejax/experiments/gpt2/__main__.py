"""Dead latents and their revival, monosemanticity, and a viewer of every latent.

python -m saejax.experiments.gpt2 --flagfile=experiments/gpt2/quick.flags

From plain text to labelled latents in five stages: text, language model, activations, dictionaries,
analysis. The language model is GPT-2, or a small one that the study trains itself.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from saejax import report
from saejax.core.files import append_rows, write_arrays, write_text
from saejax.core.machine import machine
from saejax.core.table import Table
from saejax.experiments.common import command
from saejax.experiments.gpt2 import claims, labels
from saejax.experiments.language import dictionaries, pretrained
from saejax.experiments.language import stages as language_stages
from saejax.interpret.budget import BudgetError
from saejax.interpret.endpoint import ChatError
from saejax.interpret.measurement import stored_text
from saejax.interpret.settings import InterpretSettings
from saejax.interpret.study import Found, Study, analyse
from saejax.lm.model import hook_width
from saejax.lm.recovered import recovery
from saejax.lm.tokenizer import end_of_text, token_texts
from saejax.results import workdir
from saejax.results.result import Result
from saejax.sae.params import SAEConfig
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

VIEWERS = ("first", "all", "none")
# Where stages lie, and what the last stage alone reads: may change when an interrupted run goes on.
MAY_CHANGE = (
    "workdir_lm",
    "store",
    "dictionaries",
    "sample_tokens",
    "eval_windows",
    "n_labelled",
    "least_firings",
    "label_contexts",
    "viewer",
    "chat_model",
    "chat_url",
    "chat_key_variable",
    "chat_cache",
    "chat_answer_tokens",
    "chat_max_requests",
    "chat_max_tokens",
)

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/gpt2")
language_stages.define(FLAGS, hook="blocks.3.hook_resid_pre")
pretrained.define(FLAGS)
flags.DEFINE_list("expansion", ["4", "8", "16", "32"], "d_sae over d_in.", flag_values=FLAGS)
command.define_training(
    FLAGS, l1=(0.3, 0.2), seeds=("0-2",), lr=(0.003,), steps=2000, eval_every=100
)
command.define_revival(FLAGS, every=500)
dictionaries.define(FLAGS)
DEFAULT = InterpretSettings()
flags.DEFINE_float(
    "dead_threshold",
    DEFAULT.dead_threshold,
    "A latent that is never above it is dead: on held-out "
    "batches, for resampling and in the viewer.",
    flag_values=FLAGS,
)
for _name, _text in (
    ("sample_tokens", "Tokens of the store on which latents are looked at, about."),
    ("eval_windows", "Windows of validation text for the loss recovered."),
    ("n_labelled", "Latents of highest and of lowest selectivity that are labelled, each."),
    ("least_firings", "A latent that fires less often is not judged."),
    ("label_contexts", "Contexts that a labeller sees, at most."),
):
    flags.DEFINE_integer(_name, getattr(DEFAULT, _name), _text, flag_values=FLAGS)
labels.define(FLAGS)
flags.DEFINE_enum(
    "viewer",
    "first",
    list(VIEWERS),
    "Seeds whose SAEs have pages in the viewer.",
    flag_values=FLAGS,
)


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
        sweep = Sweep(
            l1=command.numbers(FLAGS, "l1"),
            ratio=command.numbers(FLAGS, "expansion"),
            seeds=command.seeds(FLAGS),
            lr=command.one_number(FLAGS, "lr"),
            resample=ways,
        )
    settings = Settings(
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        eval_every=FLAGS.eval_every,
        eval_batches=FLAGS.eval_batches,
        sae=SAEConfig(l1_reduction="sum", use_b_dec=True, init="tied"),
        resample=rule,
        dead_threshold=FLAGS.dead_threshold,
        matmul_precision=FLAGS.matmul_precision,
        cell_batch=FLAGS.cell_batch,
    )
    dictionaries.check_held_out(FLAGS, settings)
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
        stages = language_stages.Stages()
        loaded = pretrained.load(FLAGS, stages)
        shape = language_stages.settings(FLAGS)[0] if loaded is None else loaded.model.config
        with command.flag_names(ratio="expansion"):
            plan = dictionaries.planned(FLAGS, hook_width(shape, FLAGS.hook), sweep, settings)
        if FLAGS.dry_run:
            command.dry_run(plan)
            return
        # Only now, since a workdir keeps the flags that it was begun with.
        path = command.continued_workdir(FLAGS, "gpt2", MAY_CHANGE, until_end)
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
            study = Study(result, lm.model, store, text, labellers, losses, analysis)
            seeds = {"first": sweep.seeds[:1], "all": sweep.seeds, "none": ()}[FLAGS.viewer]
            try:
                found = analyse(study, seeds, path / "viewer")
            except ChatError as error:
                raise ValueError(f"chat_model: {error}") from None
            except BudgetError as error:
                raise ValueError(f"chat_{error}") from None
            remarks.append(f"{len(found.rows['labels'])} labels")
        run = {
            "study": {"name": "gpt2", **asdict(analysis)},
            "hook": FLAGS.hook,
            "d_in": store.d,
            "coords": {
                "l1": sweep.l1,
                "expansion": sweep.ratio,
                "resample": sweep.resample,
                "seed": sweep.seeds,
            },
            "d_sae": result.d_sae,
            **language_stages.summary(lm, corpus),
            "packing": asdict(cut),
            "store": {"rows": len(store), "dtype": store.config.dtype, "checksum": store.checksum},
            "sweep": {
                **asdict(settings),
                "lr": sweep.lr[0],
                "held_out": FLAGS.held_out,
                "train_seconds": result.run["train_seconds"],
                "flops_per_step": result.run["flops_per_step"],
            },
            "losses": losses.of_the_model(),
            "tokens_looked_at": len(text.rows),
            "labellers": [labeller.describe() for labeller in labellers],
            **machine("flax", "optax"),
        }
        _write(path, run | {"stages": stages.rows}, result, found)
        print(f"report: {report.write(path)}")
        if FLAGS.viewer != "none":
            print(f"viewer: {path / 'viewer' / 'index.html'}")


def _write(path: Path, run: dict[str, Any], result: Result, found: Found) -> None:
    """Leaves what was found in the workdir."""
    judged = claims.of_gpt2(found.rows)
    (path / "analysis").mkdir(exist_ok=True)
    history = {f"history/{name}": result.history[name] for name in ("dead_latents", "fvu", "l0")}
    write_arrays(path / "analysis.npz", {**found.arrays, **history, "steps": result.steps})
    for name, table in (*((f"analysis/{n}", t) for n, t in found.rows.items()), ("claims", judged)):
        (path / f"{name}.jsonl").unlink(missing_ok=True)
        append_rows(path / f"{name}.jsonl", table)
    write_text(path / "results.csv", Table(found.rows["cells"]).to_csv())
    workdir.write_run(path, run, finished=True)


if __name__ == "__main__":
    command.run(main, FLAGS)
