import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import Cohort, build_cohort, label_column
from mmnar.simulation.events import OUTCOMES, PREDICTION_AFTER, read_synthetic
from mmnar.simulation.population import Simulation, simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions
from mmnar.sources.events import EVENT_SCHEMA, Extract


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(600, 4, seed=7, sites=3)


@pytest.fixture(scope="module")
def extract(sim: Simulation) -> Extract:
    return read_synthetic(sim)


@pytest.fixture(scope="module")
def cohort(extract: Extract) -> Cohort:
    return build_cohort(extract, synthetic_criteria(), synthetic_questions())


def last_values(frame: pl.DataFrame, sim: Simulation) -> np.ndarray:
    """(N, M, F) last value per code, NaN where there is none."""
    values = np.full(sim.content.shape, np.nan, dtype=np.float32)
    last = frame.filter(pl.col("code").str.starts_with("m")).sort("time").group_by("sample", "code").last()
    for sample, code, value in last.select("sample", "code", "numeric_value").iter_rows():
        modality, dimension = code.split("//")
        values[sample, int(modality[1:]), int(dimension[1:])] = value
    return values


def test_what_is_known_in_time_is_the_observed_content_and_nothing_else(
    sim: Simulation, extract: Extract, cohort: Cohort
) -> None:
    past = extract.events.before(cohort.samples).frame
    np.testing.assert_array_equal(last_values(past, sim), sim.observed_content().astype(np.float32))


def test_reading_too_late_shows(sim: Simulation, extract: Extract, cohort: Cohort) -> None:
    keys = cohort.samples.select("sample", "stay_id", "prediction_time")
    everything = extract.events.frame.join(keys, on="stay_id")
    by_time = everything.filter(pl.col("time") <= pl.col("prediction_time"))
    for careless in (everything, by_time):  # without any filter, and with the wrong one
        values = last_values(careless, sim)
        assert (~np.isnan(values).all(axis=2) & ~sim.present).sum() > 50
        telling = np.nanmax(values, axis=(1, 2))
        assert telling[sim.labels.any(axis=1)].mean() > telling[~sim.labels.any(axis=1)].mean() + 3


def test_labels_and_truth_are_the_simulated_ones(sim: Simulation, extract: Extract, cohort: Cohort) -> None:
    labels = cohort.samples.select(label_column(o) for o in OUTCOMES).to_numpy()
    np.testing.assert_array_equal(labels.astype(bool), sim.labels)
    assert extract.truth is not None
    truth = cohort.samples.join(extract.truth, on="stay_id", how="left", maintain_order="left").select(OUTCOMES)
    np.testing.assert_array_equal(truth.to_numpy(), sim.bayes)


def test_cohort_keeps_every_stay_and_asks_at_24_hours(extract: Extract, cohort: Cohort) -> None:
    assert [step.kept for step in cohort.attrition["cohort"]] == [600, 600]
    joined = cohort.samples.join(extract.stays.select("stay_id", "intime"), on="stay_id")
    assert (joined["prediction_time"] - joined["intime"] == PREDICTION_AFTER).all()


def test_events_and_rules_keep_the_contract(sim: Simulation, extract: Extract) -> None:
    assert dict(extract.events.frame.schema) == EVENT_SCHEMA
    assert (extract.events.frame["available_time"] >= extract.events.frame["time"]).all()
    assert list(dict.fromkeys(r.modality for r in extract.rules)) == ["m0", "m1", "m2", "m3"]
    assert len({r.codes for r in extract.rules}) == 20
    measured = extract.events.frame.filter(pl.col("source") == "measurements").height
    assert sim.present.sum() * 5 < measured


def test_no_rule_reads_an_outcome(extract: Extract) -> None:
    read = {code for rule in extract.rules for code in rule.codes}
    outcomes = set(extract.events.frame.filter(pl.col("source") == "outcomes")["code"].unique())
    assert len(outcomes) == 3
    assert not read & outcomes


def test_attributes_are_noise_but_the_site(sim: Simulation, extract: Extract) -> None:
    assert extract.stays["site"].to_list() == [f"site {s}" for s in sim.site]
    other_policy = read_synthetic(simulate(600, 4, seed=7, sites=3, gamma=-1.0))
    columns = ["subject_id", "intime", "sex", "age_group", "unit"]
    assert extract.stays.select(columns).equals(other_policy.stays.select(columns))


def test_it_is_deterministic_and_seeds_are_different_people(sim: Simulation, extract: Extract) -> None:
    again = read_synthetic(sim)
    assert again.events.frame.equals(extract.events.frame)
    assert again.fingerprint == extract.fingerprint
    fresh = read_synthetic(simulate(600, 4, seed=8, sites=3))
    assert fresh.fingerprint != extract.fingerprint
    assert not set(fresh.stays["subject_id"]) & set(extract.stays["subject_id"])
