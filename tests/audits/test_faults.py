"""The short forms of the fault runs in audits/: kills, damaged files, disks, clocks, two writers."""

from audits import corruption, disturbances, killed_writers


def test_what_a_killed_writer_leaves_is_whole() -> None:
    found = killed_writers.run(kills=2, seed=0)
    assert len(found) == 6
    assert [problem for problems in found.values() for problem in problems] == []


def test_damaged_files_never_give_other_values() -> None:
    found, wrong = corruption.run(flips=4, seed=0)
    assert wrong == []
    assert len(found) == 13
    noticed = {name: counts.total() - counts[corruption.SAME] for name, counts in found.items()}
    assert min(noticed.values()) >= 6  # cutting a file off is noticed, but for the last lines of a list


def test_disturbed_runs_end_with_the_same_bytes() -> None:
    found = disturbances.run(every=20, times=1)
    assert [problem for _, problems in found.values() for problem in problems] == []
    assert min(tried for tried, _ in found.values()) >= 1
