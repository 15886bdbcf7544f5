"""What `lewm` understands: every verb and its arguments."""

import argparse
from pathlib import Path

DESCRIPTION = "LeWorldModel: episodes, training, planning, evaluation, the Hub."
ENVIRONMENTS = ("two_room", "push_t", "reacher", "cube")

# Verbs whose arguments are read as a recipe's.
RECIPE_VERBS = {
    "train": "train a world model: a recipe by file or by name, then any of its keys (`lewm train --help` lists them)",
    "train-decoder": "train a decoder, which makes embeddings visible: a recipe, then any of its keys",
}


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: write i/n, such as 0/4")
    return int(part), int(parts)


def parser() -> argparse.ArgumentParser:
    """The whole command line; `args.verb` names the subcommand."""
    whole = argparse.ArgumentParser(prog="lewm", description=DESCRIPTION)
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, help: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )

    sub = verb("collect", "collect episodes with an expert; the same command again continues or finds it done")
    sub.add_argument("env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", type=int, help="of all splits and shards together")
    sub.add_argument("--out", type=Path, required=True, help="directory of the data set")
    sub.add_argument("--preset", choices=["paper"], help="sizes, seed and policy of the paper's data set")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--image-size", type=int, default=224)
    sub.add_argument("--expert", help="policy by name; the environment's own by default")
    sub.add_argument("--noise", type=float, help="of the expert")
    sub.add_argument("--test-fraction", type=float, default=0.1, help="share of episodes that is held out")
    sub.add_argument("--max-steps", type=int, help="longest episode")
    sub.add_argument("--every", type=int, default=1, metavar="N", help="draw and keep every N-th step only")
    sub.add_argument("--workers", type=int, help="processes; one per core by default")
    sub.add_argument("--shard", type=_shard, default=(0, 1), help="i/n: this machine's part of the files")
    sub.add_argument("--env-arg", action="append", default=[], metavar="NAME=VALUE", help="constructor argument")
    sub.add_argument("--expert-arg", action="append", default=[], metavar="NAME=VALUE", help="constructor argument")

    sub = verb("import", "episodes of another format -> a data set of this package, lossless and resumable")
    sub.add_argument("format", choices=["hdf5", "lerobot", "mp4csv"])
    sub.add_argument("source", type=Path, help="HDF5 file, LeRobot directory, or folder of MP4 and CSV files")
    sub.add_argument("out", type=Path, help="directory of the data set")
    sub.add_argument("--mapping", type=Path, help="YAML file: which columns are what, fps, action_dim")
    sub.add_argument("--env", choices=ENVIRONMENTS, help="environment that the states belong to, if any")
    sub.add_argument("--image-size", type=int, help="refuses frames of another size, or resizes with a mapping's `fit`")
    sub.add_argument("--test-fraction", type=float, default=0.1, help="share of episodes that is held out")
    sub.add_argument("--workers", type=int, help="processes; one per core by default")

    sub = verb("data-stats", "measure a data set again and compare with its card")
    sub.add_argument("directory", type=Path)

    sub = verb("eval", "planning success of a checkpoint under a protocol, beside blind policies")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", help="data set to draw pairs from; default: the pairs that ship with the package")
    sub.add_argument("--manifest", action="append", type=Path, help="fixed pairs instead; one file per seed")
    sub.add_argument("--protocol", default="clean", help="paper, clean or a YAML file")
    sub.add_argument("--planner", help="paper, goal-time, small, ... or a YAML file; default: the protocol's")
    sub.add_argument("--policy", choices=["planner", "actor", "random", "zero"], default="planner", help="who acts")
    sub.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a value of the protocol or the planner"
    )
    sub.add_argument(
        "--offset", type=int, nargs="+", metavar="STEPS", help="goal offsets instead of 25, each with twice the budget"
    )
    sub.add_argument("-n", type=int, help="pairs per seed")
    sub.add_argument("--seeds", type=int, nargs="+")
    sub.add_argument("--num-envs", type=int, default=50, help="pairs side by side; changes no outcome")
    sub.add_argument("--out", type=Path, help="folder of results and films; the same command continues there")
    sub.add_argument("--overwrite", action="store_true", help="replace the evaluation that --out holds, when done")
    sub.add_argument("--video", type=int, default=0, metavar="N", help="film N episodes, failures first")
    sub.add_argument("--decoder", help="folder or Hub id: draws in the films what the model imagined")
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--episodes-revision", help="of a Hub data set")
    sub.add_argument("--decoder-revision", help="of a Hub decoder")

    sub = verb("compare", "two evaluations on the same pairs: McNemar's test")
    sub.add_argument("first", type=Path, help="folder that `lewm eval --out` wrote")
    sub.add_argument("second", type=Path)
    sub.add_argument("--out", type=Path, help="folder for compare.json")

    sub = verb("probe", "what can be read off frozen embeddings: ridge and MLP probes, split by episode")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--episodes", required=True, help="data set: folder or Hub id")
    sub.add_argument("--target", action="append", help="one of the environment's targets; all by default")
    sub.add_argument("--frames", type=int, default=4000)
    sub.add_argument("--seeds", type=int, nargs="+")
    sub.add_argument("--split", default="test")
    sub.add_argument("--no-controls", action="store_true", help="leave out the untrained encoder and pixel PCA")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--episodes-revision", help="of a Hub data set")

    sub = verb("surprise", "violation of expectation: does the model notice color changes and teleports?")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", help="data set the model was trained on: names the environment")
    sub.add_argument("--trajectories", type=int, default=100)
    sub.add_argument("--steps", type=int, help="environment steps of a trajectory; the event is in its middle")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--episodes-revision", help="of a Hub data set")

    sub = verb("health", "straightness, effective rank, normality, what distances mean, whether actions matter")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--episodes", required=True, help="data set: folder or Hub id")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--split", default="test")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--episodes-revision", help="of a Hub data set")

    sub = verb("decode", "strips of real, decoded and imagined pictures, and their pixel errors")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("decoder", help="folder or Hub id of a decoder, see training/train_decoder.py")
    sub.add_argument("--episodes", required=True, help="data set: folder or Hub id")
    sub.add_argument("--strips", type=int, default=8, help="stretches to draw")
    sub.add_argument("--steps", type=int, default=35, help="environment steps to imagine")
    sub.add_argument("--stretches", type=int, default=128, help="to measure pixel errors on")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--split", default="test")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--episodes-revision", help="of a Hub data set")
    sub.add_argument("--decoder-revision", help="of a Hub decoder")

    sub = verb("convert", "a published checkpoint -> safetensors, configs and a card that load in one line")
    sub.add_argument("source", help="Hub id such as quentinll/lewm-pusht, folder or weights file")
    sub.add_argument("--out", type=Path, required=True, help="new folder")
    sub.add_argument("--dataset", help="episodes or released HDF5 that the action statistics are measured on")
    sub.add_argument("--allow-unknown-weights", action="store_true", help="files of no known release, too")
    sub.add_argument("--revision", help="of a Hub checkpoint; the pinned one by default")
    sub.add_argument("--frameskip", type=int, default=5, help="environment steps of one action block")

    sub = verb("card", "write the card of a model, decoder or data set from what was measured")
    sub.add_argument("directory", type=Path)
    sub.add_argument("--repo-id", help="of the model")
    sub.add_argument("--license", help="of the weights")
    sub.add_argument("--data-license")
    sub.add_argument("--dataset-id", help="Hub id of the training data")
    sub.add_argument("--dataset-revision")
    sub.add_argument("--results", nargs="+", type=Path, default=[], help="results.json files, or folders above them")
    sub.add_argument("--world-model", help="of a decoder: Hub id of the model whose embeddings it draws")
    sub.add_argument("--with-code", action="store_true", help="add the code, so that trust_remote_code=True works")
    sub.add_argument("--local", action="store_true", help="checkpoint and data are not on the Hub: folders, not ids")
    sub.add_argument("--episodes", type=Path, help="with --local: training episodes; the recipe's folder by default")

    sub = verb("push", "upload a model folder, a data set or both; private, and without optimizer state or logs")
    sub.add_argument("repo_id")
    sub.add_argument("--model", type=Path)
    sub.add_argument("--dataset", type=Path)
    sub.add_argument("--dataset-repo-id")
    sub.add_argument("--public", action="store_true")
    sub.add_argument("--dry-run", action="store_true", help="list what would go")
    sub.add_argument("--include", action="append", default=[], metavar="PATTERN", help="upload these files, too")
    sub.add_argument("--revision", help="branch to commit to")
    sub.add_argument("--message", help="of the commits")

    sub = verb("train-expert", "train Reacher's Soft Actor-Critic expert (extra: sac)")
    sub.add_argument("env", choices=["reacher"])
    sub.add_argument("--out", type=Path, required=True, help="*.safetensors")
    sub.add_argument("--steps", type=int)
    sub.add_argument("--seed", type=int, default=0)

    for name, help in RECIPE_VERBS.items():
        verb(name, help).add_argument("arguments", nargs="*", metavar="RECIPE [--key value ...]")

    sub = verb("train-actor", "a goal-conditioned actor on a finished model's frozen embeddings: imitation, in minutes")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--episodes", required=True, help="data set with the splits train and test: folder or Hub id")
    sub.add_argument("--out", type=Path, required=True, help="new folder: the same checkpoint with its actor")
    sub.add_argument("--inputs", choices=["embeddings", "features"], default="features", help="what the actor sees")
    sub.add_argument("--steps", type=int, default=3000)
    sub.add_argument("--hidden-size", type=int, default=256, help="width of its layers")
    sub.add_argument("--layers", type=int, default=3, help="hidden layers")
    sub.add_argument("--max-blocks", type=int, default=5, help="the farthest goal, in action blocks")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--episodes-revision", help="of a Hub data set")

    sub = verb("report", "one self-contained HTML page of what was trained and measured")
    sub.add_argument("run", type=Path)
    sub.add_argument("--out", type=Path, help="the page; inside the run by default")

    sub = verb("export", "encoder and one-step predictor for other runtimes, checked against PyTorch")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--out", type=Path, required=True, help="new folder")
    sub.add_argument("--format", choices=["onnx", "torchscript"], default="onnx")
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb("doctor", "versions, device, rendering, disk and caches; one line of remedy for each problem")
    sub.add_argument("--env", choices=ENVIRONMENTS, help="what --episodes have to be of")
    sub.add_argument("--episodes", help="draw states of this data set again and compare with its frames")

    sub = verb("demo", "TwoRoom from nothing, in minutes; with a task: its shipped agent at work, within a minute")
    sub.add_argument("env", nargs="?", choices=ENVIRONMENTS, help="show an agent of this task instead of training one")
    sub.add_argument("--model", help="with a task: folder or Hub id; default: the checkpoint that ships")
    sub.add_argument("--pairs", type=int, default=12, help="with a task: start-goal pairs")
    sub.add_argument("--out", type=Path, help="folder of everything; default: demo, or demo-TASK")
    return whole
