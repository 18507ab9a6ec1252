"""What is suggested: against formulas written out by hand, and on features where the answer is plain."""

import numpy as np
import pytest

from cocoop.deploy.studio import suggest

RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clusters(centres: int, each: int, spread: float = 0.1, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return features around some centres, and which each is around."""
    middle = RNG.normal(size=(centres, dim))
    place = np.repeat(np.arange(centres), each)
    return unit(middle[place] + spread * RNG.normal(size=(len(place), dim))), place


@pytest.mark.parametrize("names", [1, 2, 3, 7])
def test_the_likeliest_names_and_the_margin(names: int) -> None:
    chances = suggest.softmax(RNG.normal(size=(9, names)))
    found = suggest.tops(chances)
    for row, chance in enumerate(chances):
        best = sorted(range(names), key=lambda place: -chance[place])[:3]
        assert found.places[row].tolist() == best
        np.testing.assert_allclose(found.chances[row], chance[best])
        margin = chance[best[0]] - chance[best[1]] if names > 1 else 0
        assert found.unsure[row] == pytest.approx(1 - margin)


def test_groups_are_the_clusters_and_the_largest_comes_first() -> None:
    rows, place = clusters(4, 30)
    rows, place = np.concatenate([rows, rows[place == 2]]), np.append(place, np.full(30, 2))
    group, centres = suggest.groups(rows)
    assert len(centres) == group.max() + 1
    sizes = np.bincount(group)
    assert sizes.tolist() == sorted(sizes, reverse=True)
    for each in range(len(centres)):
        assert len(set(place[group == each])) == 1
    nearest = suggest.typical(rows, group, centres, 5)
    for each, members in enumerate(nearest):
        assert set(group[members]) == {each}
        cosines = rows @ centres[each]
        assert cosines[members].tolist() == sorted(cosines[group == each], reverse=True)[:5]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_groups_of_few_images(count: int) -> None:
    group, centres = suggest.groups(unit(RNG.normal(size=(count, 8))))
    assert len(group) == count
    assert len(centres) == (group.max() + 1 if count else 0)
    same, _ = suggest.groups(np.ones((count, 8), np.float32))
    assert set(same) == ({0} if count else set())


def test_next_ones_are_the_greedy_products_of_unsureness_and_distance() -> None:
    rows, unsure = unit(RNG.normal(size=(40, 8))), RNG.random(40)
    labelled = np.zeros(40, bool)
    labelled[[3, 17]] = True
    chosen, near = [], rows[labelled]
    for _ in range(10):
        scores = [
            -1 if labelled[i] or i in chosen else (unsure[i] + 1e-3) * (1 - (near @ rows[i]).max())
            for i in range(40)
        ]
        chosen.append(int(np.argmax(scores)))
        near = np.concatenate([near, rows[chosen[-1:]]])
    assert suggest.next_ones(rows, unsure, labelled, 10).tolist() == chosen


def test_next_ones_spread_over_clusters_and_leave_labelled_ones_alone() -> None:
    rows, place = clusters(6, 50)
    nothing = np.zeros(len(rows), bool)
    assert set(place[suggest.next_ones(rows, None, nothing, 6)]) == set(range(6))
    labelled = place < 5
    assert set(place[suggest.next_ones(rows, None, labelled, 20)]) == {5}
    assert len(suggest.next_ones(rows, None, ~nothing)) == 0
    assert sorted(suggest.next_ones(rows[:3], None, nothing[:3])) == [0, 1, 2]  # each once, and all


def test_next_ones_of_many_are_among_the_least_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "POOL", 20)
    rows, unsure = unit(RNG.normal(size=(100, 8))), RNG.random(100)
    chosen = suggest.next_ones(rows, unsure, np.zeros(100, bool), 30)
    assert set(chosen) == set(np.argsort(-unsure)[:20])
    assert len(suggest.next_ones(rows, None, np.zeros(100, bool), 30)) == 20


def test_suspicion_is_the_margin_without_the_label_itself() -> None:
    rows, zero = unit(RNG.normal(size=(12, 6))), RNG.normal(size=(12, 4))
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 0, 1, 3])  # 3 has no other image
    middle = rows.mean(0)
    centred = unit(rows - middle)
    expected = []
    for i in range(12):
        chances = suggest.softmax(zero[i : i + 1])[0]
        if (labels == labels[i]).sum() > 1:
            cosines = np.full(4, -np.inf)
            for c in range(4):
                others = [centred[j] for j in range(12) if labels[j] == c and j != i]
                mean = np.mean(others, 0)
                cosines[c] = 20 * centred[i] @ mean / np.linalg.norm(mean)
            chances = (chances + suggest.softmax(cosines[None])[0]) / 2
        expected.append(max(chances[c] for c in range(4) if c != labels[i]) - chances[labels[i]])
    np.testing.assert_allclose(suggest.suspicion(rows, labels, zero), expected, rtol=1e-4, atol=1e-5)


def test_wrong_labels_are_found_first() -> None:
    rows, labels = clusters(5, 20, spread=0.3)
    given = labels.copy()
    wrong = [4, 33, 61, 88]
    given[wrong] = (given[wrong] + 1) % 5
    values = suggest.suspicion(rows, given, np.zeros((100, 5)))
    assert set(np.argsort(-values)[:4]) == set(wrong)
    assert (values > 0).sum() == 4


def test_nothing_is_suspicious_of_one_name_or_no_image() -> None:
    rows = unit(RNG.normal(size=(3, 4)))
    assert (suggest.suspicion(rows, np.zeros(3, int), np.zeros((3, 1))) < 0).all()
    assert len(suggest.suspicion(rows[:0], np.zeros(0, int), np.zeros((0, 2)))) == 0
