"""Regimes: a modality hidden from some patients, and samples that play no role, before anything is fitted.

A regime is laid over a dataset: what it gives is a dataset like any other, with content blanked and ``present`` false
where something is hidden, so networks and all other methods meet it at the same door. The test fold and the rest are
treated each by itself, in the order of what can be known without any label:

=============  ======================================================================================================
``random``     the hash of the patient
``severity``   a measurement of the patient's own, the last before the prediction, or an attribute; ties by the hash
``law``        u / w: u the hash as a number in (0, 1), w the chance that, at another site, a patient with the same
               other modalities (and the same value of an attribute) lacks the modality. At the share that the law
               itself hides of these patients each is hidden with chance w; other shares move all chances alike
=============  ======================================================================================================

The first so many patients of that order lose the modality in all of their samples. No risk of a model is an order: it
would carry outcomes of the patients it was fitted on into the patterns of those beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.config import HideConfig, RowsConfig, RunConfig, override, to_plain
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, EmptyFoldError, nearest
from mmnar.privacy import SMALL_CELL, counted_of, patients_by_group
from mmnar.roles import Test, subject_keys

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

_HIDE, _ROWS = 5_555_557, 6_666_667
"""Added to the seed: who is hidden or left out has nothing to do with the split, nor with each other."""
ANY_OTHER: Final = ""
"""The entry of a law for kinds of patients that it does not tell apart."""


@dataclass(frozen=True)
class Regime:
    """What was asked for, checked against a store.

    Args:
        hide, rows: As configured; the default where nothing is hidden or left out.
        law: Kind of patient (see ``_kinds``) → the chance of lacking the modality; empty unless ``hide.which`` is law.
    """

    hide: HideConfig = field(default_factory=HideConfig)
    rows: RowsConfig = field(default_factory=RowsConfig)
    law: Mapping[str, float] = field(default_factory=dict)

    @property
    def tested(self) -> Self:
        """As far as the test fold meets it: runs that share this are scored on the same samples."""
        nothing = self.hide.where == "train" or not self.hide.modality
        hide = HideConfig() if nothing else replace(self.hide, where="test")
        rows = RowsConfig() if self.rows.share("test") == 1 else replace(self.rows, train="all")
        return replace(self, hide=hide, rows=rows, law=self.law if hide.modality else {})

    def laid_over(self, data: PatientDataset, split: Split) -> PatientDataset:
        """The dataset that everything is fitted and scored on. Exact risks, which knew what is hidden, are left out
        where that is judged."""
        data = self.chosen(data, split)
        if not self.hide.modality:
            return data
        hidden, parts = self.hidden(data, split), dict(_parts(data, split))
        judged = parts["test"] if parts["test"].any() else parts["train"]
        bayes = None if data.bayes is None or (hidden & judged).any() else data.bayes.copy()
        if bayes is not None:
            bayes[hidden] = np.nan
        return replace(data.hiding(self.hide.modality, hidden), bayes=bayes)

    def chosen(self, data: PatientDataset, split: Split) -> PatientDataset:
        """The same without those who play no role.

        Raises:
            EmptyFoldError: Nobody is left in a fold.
        """
        left_out: Bool = np.zeros(len(data), dtype=bool)
        for part, mine in _parts(data, split):
            share = self.rows.share(part)
            if share < 1:
                unpaired = mine & ~_has_all(data, self.rows.modalities)
                u = _uniform(data, self.rows.seed + _ROWS)
                left_out |= unpaired & ~_first(data, unpaired, u, u, share)
        if not left_out.any():
            return data
        _refuse_empty(self.rows, data, split, left_out)
        return replace(data, left_out=left_out)

    def hidden(self, data: PatientDataset, split: Split) -> Bool:
        """(N,) samples that lose the modality.

        Raises:
            ConfigError: What severity is read from is no measurement and no attribute of the store.
        """
        hide, found = self.hide, np.zeros(len(data), dtype=bool)
        u = _uniform(data, hide.seed + _HIDE)
        order = u
        if hide.which == "severity":
            order = _severity(data, hide)
        elif hide.which == "law":
            order = u / np.array([self.law.get(kind, self.law[ANY_OTHER]) for kind in _kinds(data, data, hide)])
        for _, having in self._having(data, split):
            found |= _first(data, having, order, u, hide.share)
        return found

    def _having(self, data: PatientDataset, split: Split) -> Iterator[tuple[str, Bool]]:
        """(part, (N,) samples there that have the modality) of each part that it may be hidden from."""
        has = data.present[:, data.schema.modality_names.index(self.hide.modality)]
        kept = True if data.left_out is None else ~data.left_out
        for part, mine in _parts(data, split):
            if self.hide.where in (part, "both"):
                yield part, mine & has & kept

    def words(self, data: PatientDataset, split: Split) -> list[str]:
        """What was done, in sentences."""
        said = []
        for part, name in _NAMES.items():
            if self.rows.share(part) < 1:
                which = " and ".join(self.rows.modalities)
                said.append(f"Of {name} without {which}, a share of {self.rows.share(part):g} takes part.")
        if self.hide.modality:
            hide, chosen = self.hide, self.chosen(data, split)
            hidden, whom = self.hidden(chosen, split), {"random": "at random"}
            whom["severity"] = f"by {hide.by}, {', '.join(hide.first)} first"
            whom["law"] = f"as patients of '{hide.law}' lack it" + (f", by {hide.by}" if hide.by else "")
            for part, having in self._having(chosen, split):
                people = [len(np.unique(data.subject_id[rows])) for rows in (having & hidden, having)]
                count = counted_of(*people)
                said.append(f"'{hide.modality}' is hidden from {count} {_NAMES[part]} who have it, {whom[hide.which]}.")
        return said

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse; of a record that knows no regimes, none."""
        hide, rows = override(HideConfig(), record.get("hide", {})), override(RowsConfig(), record.get("rows", {}))
        return cls(hide, rows, record.get("law", {}))


_NAMES: Final = {"train": "patients learned from", "test": "test patients"}


def settled(config: RunConfig, data: PatientDataset) -> tuple[RunConfig, Regime]:
    """A run's configuration and its regime on a store. What changes nothing is as if it were not set: a share of 0 is
    the same run as no ``hide``, and so is what is hidden of a modality that the method is not given. Of a law's store
    its name alone is kept.

    Raises:
        ConfigError: A modality, measurement, attribute or value that the store has not; a law of too few patients.
        EmptyFoldError: Nobody has the modality where it is to be hidden, or nobody is left in a fold.
    """
    split = Split(**to_plain(config.split))
    hide, rows = config.hide, config.rows
    law: dict[str, float] = {}
    for key, names in (("hide.modality", (hide.modality,) * bool(hide.modality)), ("rows.modalities", rows.modalities)):
        for name in names:
            if name not in (known := data.schema.modality_names):
                raise ConfigError(f"{key} '{name}'", "a modality of the store", "another name", nearest(name, known))
    given = not config.modalities or hide.modality in config.modalities
    hide = hide if hide.share and given else HideConfig()
    rows = RowsConfig() if rows.share("train") == rows.share("test") == 1 else rows
    if hide.which == "law":
        law, name = _law(hide, data, split)
        hide = replace(hide, law=name)
    regime = Regime(hide, rows, law)
    chosen = regime.chosen(data, split)
    if hide.modality:
        _refuse_nobody(regime, chosen, split)
        if hide.which == "severity":
            _severity(chosen, hide)
    return replace(config, hide=hide, rows=rows), regime


def _refuse_empty(rows: RowsConfig, data: PatientDataset, split: Split, left_out: Bool) -> None:
    roles = split.roles(data.subject_id, data.attributes)
    for role in np.unique(roles):
        if not ((roles == role) & ~left_out).any():
            part = "test" if role == Test.name else "train"
            raise EmptyFoldError(
                f"rows.{part} in fold {split.fold}",
                f"somebody with {', '.join(rows.modalities)} in the {role} fold",
                "nobody",
                f"keep a share of the others there, or check rows.modalities and split.{role}",
            )


def _refuse_nobody(regime: Regime, data: PatientDataset, split: Split) -> None:
    having = list(regime._having(data, split))
    parts = dict(_parts(data, split))
    for part, has in having:
        if not has.any() and (parts[part].any() or len(having) == 1):
            where = f"among {_NAMES[part]}"
            what = f"hide.modality '{regime.hide.modality}' in fold {split.fold}"
            raise EmptyFoldError(what, f"somebody {where} who has it", "nobody", _SEE)


_SEE: Final = "see `mmnar describe`, or hide another one"


def _parts(data: PatientDataset, split: Split) -> Iterator[tuple[str, Bool]]:
    """The two parts that are treated each by itself, (N,) who is there: all but the test fold, and the test fold."""
    test: Bool = split.roles(data.subject_id, data.attributes) == Test.name
    yield "train", ~test
    yield "test", test


def _has_all(data: PatientDataset, modalities: tuple[str, ...]) -> Bool:
    at = [data.schema.modality_names.index(name) for name in modalities]
    return np.asarray(data.present[:, at].all(axis=1))


def _uniform(data: PatientDataset, seed: int) -> Float:
    """(N,) in (0, 1), the same for all samples of a patient."""
    return (subject_keys(data.subject_id, seed) / 2.0**64).clip(1e-12, 1 - 1e-12)


def _first(data: PatientDataset, candidates: Bool, order: Float, u: Float, share: float) -> Bool:
    """(N,) candidates of the patients who come first, a share of all candidates' patients: by the least of their
    samples' ``order``, and by ``u`` where that is equal."""
    rows = np.flatnonzero(candidates)
    people, at, whose = np.unique(data.subject_id[rows], return_index=True, return_inverse=True)
    least = np.full(len(people), np.inf)
    np.minimum.at(least, whose.reshape(-1), order[rows])
    first = people[np.lexsort((u[rows][at], least))[: int(share * len(people) + 0.5)]]
    return candidates & np.isin(data.subject_id, first)


def _severity(data: PatientDataset, hide: HideConfig) -> Float:
    """(N,) lower = loses it earlier; infinite where nothing was measured.

    Raises:
        ConfigError: ``by`` or ``first`` names nothing that the store has.
    """
    if hide.by in data.attributes:
        values = data.attributes[hide.by]
        known = [str(v) for v in np.unique(values) if v]
        for name in hide.first:
            if name not in known:
                remedy = nearest(name, known)
                raise ConfigError(f"hide.first '{name}'", f"a value of the attribute '{hide.by}'", "another", remedy)
        order = np.full(len(values), np.inf)
        for i, name in enumerate(hide.first):
            order[values == name] = i
        return order
    if hide.first not in (("highest",), ("lowest",)):
        raise ConfigError("hide.first", "highest or lowest", ", ".join(hide.first) or "nothing", "correct it")
    value = _last(data, hide.by)
    return np.where(np.isnan(value), np.inf, value if hide.first == ("lowest",) else -value)


def _last(data: PatientDataset, name: str) -> Float:
    """(N,) the last value of a measurement before the prediction; NaN where there is none."""
    places = {
        f"{m.name}.{f.name}": (m.name, i)
        for m in data.schema.modalities
        if m.kind in ("static", "series")
        for i, f in enumerate(m.features)
        if f.kind == "continuous"
    }
    if name not in places:
        known = [*places, *data.attributes]
        raise ConfigError(f"hide.by '{name}'", "a measurement or an attribute", "another name", nearest(name, known))
    modality, column = places[name]
    content = data.values[modality]
    if not isinstance(content, SeriesArrays):
        assert isinstance(content, np.ndarray)
        return content[:, column].astype(np.float64)
    items = np.flatnonzero(content.feature == column)
    sample = np.searchsorted(content.offsets, items, side="right") - 1
    last = np.full(len(data), np.nan)
    last[sample] = content.values[items]  # in time order: the last one stays
    return last


def _kinds(of: PatientDataset, like: PatientDataset, hide: HideConfig) -> list[str]:
    """The kind of each sample of a dataset: which of the other modalities of ``like`` it has, "-" in place of the
    hidden one, and its value of the attribute ``by``; such as "1-0 80+"."""
    columns = [
        np.full(len(of), "-")
        if name == hide.modality
        else np.where(of.present[:, of.schema.modality_names.index(name)], "1", "0")
        for name in like.schema.modality_names
    ]
    named = [] if not hide.by else [np.full(len(of), " "), of.attributes[hide.by]]
    return ["".join(parts) for parts in zip(*columns, *named, strict=True)]


def _law(hide: HideConfig, data: PatientDataset, split: Split) -> tuple[dict[str, float], str]:
    """Another site's law, and its name. A kind has a chance of its own where ten patients of it have the modality and
    ten lack it; the others share that of all others, or of everyone.

    Raises:
        ConfigError: No such store, attribute or value; other modalities; or fewer than ten patients with or without.
    """
    attribute, _, value = hide.law.partition("=")
    if (Path(hide.law) / "manifest.json").is_file():
        site, name = open_store(hide.law), Path(hide.law).resolve().name
        rows: Bool = np.ones(len(site), dtype=bool)
    elif attribute in data.attributes:
        site, name = data, hide.law
        rows = (site.attributes[attribute] == value) & dict(_parts(site, split))["train"]
    else:
        known, fact = list(data.attributes), "neither"
        raise ConfigError(f"hide.law '{Path(hide.law).name}'", "a store, or ATTRIBUTE=VALUE", fact, _attributes(known))
    for what, names, own in (
        ("modalities", site.schema.modality_names, data.schema.modality_names),
        ("attribute", [*site.attributes], [hide.by] if hide.by else []),
        ("attribute", [*data.attributes], [hide.by] if hide.by else []),
    ):
        lacking = [of for of in own if of not in names]
        if lacking:
            fact = f"none named {', '.join(lacking)}"
            raise ConfigError(f"hide.law '{name}'", f"the same {what}", fact, "name another store, or another hide.by")
    kinds = np.array(_kinds(site, data, hide))[rows]
    lacks = ~site.present[rows, site.schema.modality_names.index(hide.modality)]
    return _chances(kinds, lacks, site.subject_id[rows], name), name


def _attributes(known: list[str]) -> str:
    return f"its attributes are {', '.join(known)}" if known else "the store has no attributes"


def _chances(kinds: NDArray[np.str_], lacks: Bool, subject: NDArray[np.int64], name: str) -> dict[str, float]:
    """Kind → share of its samples that lack the modality; see ``_law``."""
    named, kind = np.unique(kinds, return_inverse=True)
    kind = kind.reshape(-1)
    sides = [patients_by_group(kind[side], subject[side], len(named)) for side in (lacks, ~lacks)]
    alone = np.array([min(both) >= SMALL_CELL for both in zip(*sides, strict=True)], dtype=bool)
    rest = ~alone[kind] if len(named) else np.zeros(0, dtype=bool)
    if not _tells(lacks[rest], subject[rest]):
        rest = np.ones(len(kind), dtype=bool)
    if not _tells(lacks, subject):
        fact = f"fewer than {SMALL_CELL} of one kind"
        raise ConfigError(f"hide.law '{name}'", "patients with the modality and patients without", fact, _OTHER_LAW)
    chances = {str(named[k]): float(lacks[kind == k].mean()) for k in np.flatnonzero(alone)}
    return {of: max(round(chance, 4), 1e-4) for of, chance in {**chances, ANY_OTHER: float(lacks[rest].mean())}.items()}


_OTHER_LAW: Final = "name another store or value"


def _tells(lacks: Bool, subject: NDArray[np.int64]) -> bool:
    """Whether ten patients have it and ten lack it."""
    return min(len(np.unique(subject[side])) for side in (lacks, ~lacks)) >= SMALL_CELL
