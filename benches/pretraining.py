#!/usr/bin/env python3
"""Do masked autoencoders, 2D features and pictures help? Two encoders, the same CPU-seconds of pre-training for each arm.

Usage: pretraining.py BIN MESHES WEIGHTS OUT [--layer 7] [--cpu-seconds 120] [--seeds 5] [--labels 5] [--arms NAME ...]

BIN is the folder of `tap` and `tap-train`; MESHES has a folder a category and split.csv; WEIGHTS is a 2D network (that of
scripts/teacher, whose layer 7 is the one to take). How many steps an arm gets is measured first; the time that 2D features take
is printed beside and not counted, since it is spent once for all arms. Each arm is one pre-training on one thread, then linear
probes with 5, 10 and all labels, then fine-tuning with as many seeds as asked for, paired with the same encoder from scratch.
What is there is kept: stopped, it goes on where it was. An encoder's arm from scratch comes first. Needs Python alone.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

# Feature sets: of the stored views, and of three depth maps of the points as I2P-MAE publishes them.
FEATURES = {"views": "images", "splats": "depth"}

NEVER = 10**6
TRANSFORMER, HIERARCHY = "mini-point-mae", "mini-i2p-mae"
SEEN, ALL = "data.hidden_points=leave_out", "data.hidden_points=keep"


def i2p(features, *settings):
    return HIERARCHY, [f"data.features={features}", *settings]


# Name -> preset and settings. Those named scratch are not pre-trained.
ARMS = {
    "transformer: scratch": (TRANSFORMER, []),
    "transformer: Point-MAE": (TRANSFORMER, []),
    "transformer: TAP": (TRANSFORMER, ["method=tap"]),
    "transformer: TAP + Point-MAE": (TRANSFORMER, ['method=["tap","point-mae"]']),
    "hierarchy: scratch": ("mini-point-m2ae", []),
    "hierarchy: Point-M2AE": ("mini-point-m2ae", []),
    "hierarchy: guided masks, views": i2p("views", SEEN, "method.weight_2d=0"),
    "hierarchy: 2D targets, views": i2p("views", SEEN, "method.mask=random"),
    "hierarchy: I2P-MAE, views": i2p("views", SEEN),
    "hierarchy: I2P-MAE, views, hidden points too": i2p("views", ALL),
    "hierarchy: guided masks, splats": i2p("splats", ALL, "method.weight_2d=0"),
    "hierarchy: 2D targets, splats": i2p("splats", ALL, "method.mask=random"),
    "hierarchy: I2P-MAE, splats": i2p("splats", ALL),
    "hierarchy: TAP": (HIERARCHY, ["method=tap"]),
    "hierarchy: TAP + I2P-MAE, views": ("mini-tap-i2p", ["data.features=views", SEEN]),
}


def run(command):
    """Runs a command and returns its CPU-seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def note(text):
    print(text, file=sys.stderr, flush=True)


class Trial:
    def __init__(self, arguments):
        self.arguments = arguments
        self.out = arguments.out
        self.data = self.out / "shards"
        self.tap, self.train = arguments.bin / "tap", arguments.bin / "tap-train"

    def once(self, path, command):
        """Runs a command that makes `path`, unless it is there; its CPU-seconds are kept beside it."""
        kept = path.with_name(path.name + ".cpu.json")
        if not kept.exists():
            if path.is_dir():
                shutil.rmtree(path)
            note(f"{path.relative_to(self.out)}")
            kept.write_text(json.dumps(run(command)))
        return json.loads(kept.read_text())

    def build(self):
        meshes = self.arguments.meshes
        layout = ["--layout", "folders", "--splits", meshes / "split.csv"]
        self.once(self.data, [self.tap, "dataset", "build", meshes, *layout, "--config", "mini-data", "--out", self.data])
        for name, views in FEATURES.items():
            made = self.data / "__features" / name
            model = ["--model", self.arguments.weights, "--layer", self.arguments.layer, "--size", 112, "--threads", 1]
            command = [self.train, "features", self.data, *model, "--views", views, "--out", name]
            print(f"2D features, {name}: {self.once(made, command):.0f} CPU-seconds", flush=True)

    def settings(self, arm):
        preset, settings = ARMS[arm]
        return ["--config", preset, *(word for setting in settings for word in ("--set", setting))]

    def folder(self, arm):
        folder = self.out / "".join(letter if letter.isalnum() else "-" for letter in arm)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def pretrain(self, arm):
        """Pre-trains for the CPU-seconds asked for; returns the steps, and the CPU-seconds that they took."""
        folder = self.folder(arm)
        command = [self.train, "pretrain", "--data", self.data, *self.settings(arm), "--threads", 1]
        command += ["--set", f"log.validate_every={NEVER}", "--set", f"log.images_every={NEVER}"]
        steps = folder / "steps.json"
        if not steps.exists():
            few, many = 20, 100
            trial = lambda count: run(
                [*command, "--set", f"pretrain.steps={count}", "--out", folder / "trial", "--force"]
            )
            a_step = (trial(many) - trial(few)) / (many - few)
            shutil.rmtree(folder / "trial")
            steps.write_text(json.dumps(round(self.arguments.cpu_seconds / a_step / 10) * 10))
        count = json.loads(steps.read_text())
        command += ["--set", f"pretrain.steps={count}", "--out", folder / "run"]
        return count, self.once(folder / "run", command)

    def probe(self, arm):
        folder = self.folder(arm)
        command = [self.train, "probe", "--data", self.data, "--init", folder / "run", "--random-inits", 3]
        command += [*self.settings(arm)[:2], "--threads", 1, "--out", folder / "probe"]
        self.once(folder / "probe", command)
        return json.loads((folder / "probe" / "probe.json").read_text())["arms"]

    def finetune(self, arm):
        """Test accuracy in % of each seed."""
        folder, scores, labels = self.folder(arm), [], self.arguments.labels
        for seed in range(self.arguments.seeds):
            out = folder / f"{labels}-labels-{seed}"
            command = [self.train, "finetune", "--task", "classify", "--data", self.data, "--labels-per-class", labels]
            command += [*self.settings(arm)[:2], "--seed", seed, "--threads", 1, "--out", out]
            if not arm.endswith("scratch"):
                command += ["--init", folder / "run"]
            self.once(out, command)
            scores.append(100 * json.loads((out / "result.json").read_text())["accuracy"])
        return scores


def svm(encoder):
    """Test accuracy in %, the mean over draws of labels."""
    return ", ".join(f"{100 * encoder['svm'][labels]['mean']:.1f}" for labels in ("5", "10", "all"))


def summary(scores):
    return f"{statistics.mean(scores):.1f} ±{statistics.stdev(scores):.1f}"


def difference(scores, scratch):
    """The mean of the paired differences, with its standard error."""
    if scratch is None:
        return ""
    pairs = [score - other for score, other in zip(scores, scratch, strict=True)]
    return f"{statistics.mean(pairs):+.1f} ({statistics.stdev(pairs) / len(pairs) ** 0.5:.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bin", type=Path)
    parser.add_argument("meshes", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layer", type=int, default=7)
    parser.add_argument("--cpu-seconds", type=float, default=120)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", default="5")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="NAME")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    trial = Trial(arguments)
    trial.build()
    table(trial, arguments.arms)


def table(trial, arms):
    print(f"arm | steps | CPU s | SVM: 5, 10, all labels | fine-tuned, {trial.arguments.labels} labels | over scratch (error)")
    scratch, known_encoders = None, set()
    for arm in arms:
        if arm.endswith("scratch"):
            scratch = trial.finetune(arm)
            print(f"{arm} | | | | {summary(scratch)} |", flush=True)
            continue
        steps, cpu_s = trial.pretrain(arm)
        pretrained, *at_random = trial.probe(arm)
        encoder = arm.split(":")[0]
        if encoder not in known_encoders:
            known_encoders.add(encoder)
            for random in at_random:
                print(f"{encoder}: {random['name']} | | | {svm(random)} | |", flush=True)
        scores = trial.finetune(arm)
        print(f"{arm} | {steps} | {cpu_s:.0f} | {svm(pretrained)} | {summary(scores)} | {difference(scores, scratch)}", flush=True)



if __name__ == "__main__":
    main()
