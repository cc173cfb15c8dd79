"""Which key of a configuration was meant by one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

SAME: Final = (
    ("lr", "learning_rate", "step_size"),
    ("max_epochs", "epochs", "n_epochs", "num_epochs"),
    ("batch_size", "batch", "bs", "minibatch"),
    ("weight_decay", "wd", "decay", "l2"),
    ("patience", "early_stopping", "early_stop"),
    ("clip_norm", "clip", "grad_clip", "gradient_clip", "gradient_clip_val", "max_grad_norm"),
    ("warmup", "warmup_steps", "warmup_ratio", "warmup_share"),
    ("min_steps", "steps", "max_steps"),
    ("label_loss", "loss", "criterion"),
    ("focal_gamma", "gamma"),
    ("focal_alpha", "alpha"),
    ("task_weights", "loss_weights", "class_weight", "weights"),
    ("accelerator", "device", "gpu", "cuda"),
    ("devices", "gpus", "num_gpus", "n_devices"),
    ("precision", "amp", "dtype"),
    ("seed", "random_state", "random_seed", "manual_seed"),
    ("ensemble", "members", "n_members", "ensemble_size"),
    ("folds", "n_folds", "num_folds", "n_splits", "cv", "kfold", "k"),
    ("tune", "val", "valid", "validation", "dev", "val_size", "validation_split"),
    ("test", "test_size", "test_split", "test_share"),
    ("held_out", "holdout", "leave_out"),
    ("by", "group", "groups", "stratify"),
    ("rule", "rectifier", "method"),
    ("prior_no_effect", "p0"),
    ("width", "dim", "d_model", "embed_dim", "embedding_dim", "hidden", "hidden_dim", "hidden_size"),
    ("layers", "n_layers", "num_layers", "depth"),
    ("heads", "nhead", "n_heads", "num_heads"),
    ("dropout", "drop", "drop_rate", "dropout_rate"),
    ("temperature", "tau"),
    ("experts", "n_experts", "num_experts"),
    ("neighbours", "neighbors", "n_neighbors", "k"),
    ("clusters", "n_clusters", "num_clusters", "centroids"),
    ("max_trees", "n_estimators", "num_trees", "n_trees", "trees", "num_boost_round", "iterations", "max_iter"),
    ("leaves", "num_leaves", "max_leaf_nodes"),
    ("c", "inverse_penalties", "regularization", "reg"),
    ("append_pattern", "mask", "missing_indicator", "indicators", "add_indicator"),
)
"""Names of one thing in other libraries and here."""


def nearest_key(word: str, known: Iterable[str]) -> str:
    """A hint that names the key that was meant: the same last part elsewhere, what others call it, or like spelling.

    >>> nearest_key("train.learning_rate", ["seed", "train.lr", "train.warmup"])
    "did you mean 'train.lr'?"
    >>> nearest_key("lr", ["seed", "train.lr", "train.warmup"])
    "did you mean 'train.lr'?"
    """
    keys = sorted(set(known))
    room, _, last = word.replace("-", "_").lower().rpartition(".")

    def likeness(key: str) -> float:
        there, _, name = key.rpartition(".")
        rooms = difflib.SequenceMatcher(None, room, there).ratio() if there else 0.5
        return difflib.SequenceMatcher(None, last, name).ratio() + rooms

    others = {other for group in SAME if last in group for other in group}
    inside = [key for key in keys if key.rpartition(".")[0] == room]
    for where, meant in ((inside, {last}), (inside, others), (keys, {last}), (keys, others)):
        found = [key for key in where if key.rpartition(".")[2] in meant]
        if found:
            return f"did you mean '{max(found, key=likeness)}'?"
    for where in (inside, keys):
        close = difflib.get_close_matches(last, {key.rpartition(".")[2] for key in where}, n=1, cutoff=0.65)
        if close:
            return f"did you mean '{max((k for k in where if k.rpartition('.')[2] == close[0]), key=likeness)}'?"
    rooms = sorted({key.partition(".")[0] + ".…" * ("." in key) for key in keys})
    return "known: " + ", ".join(inside if room and inside else rooms)
