"""The short forms of the fault runs in audits/: kills, damaged files, disks, clocks, two writers."""

from audits import corruption, disturbances, killed_writers


def test_what_a_killed_writer_leaves_is_whole() -> None:
    outcomes = killed_writers.run(kills=2, seed=0)
    assert len(outcomes) == 6
    assert [problem for problems in outcomes.values() for problem in problems] == []


def test_damaged_files_never_give_other_values() -> None:
    outcomes, wrong = corruption.run(flips=4, seed=0)
    assert wrong == []
    assert len(outcomes) == 13
    noticed = {name: counts.total() - counts[corruption.SAME] for name, counts in outcomes.items()}
    assert min(noticed.values()) >= 6  # cutting a file off is noticed, but for the last lines of a list


def test_disturbed_runs_end_with_the_same_bytes() -> None:
    outcomes = disturbances.run(every=20, times=1)
    assert [problem for _, problems in outcomes.values() for problem in problems] == []
    assert min(tried for tried, _ in outcomes.values()) >= 1
