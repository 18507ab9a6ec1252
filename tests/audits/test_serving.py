"""The short form of audits/serving.py: a server in a process of its own, and clients of every kind."""

from audits.clients import BURST, HOSTILE
from audits.forms import hostile
from audits.serving import run
from tests.refusals import png


def test_a_server_under_load_answers_rightly_and_refuses_clearly() -> None:
    kinds = len(hostile(png()))
    outcome = run(HOSTILE * kinds, seed=0)  # what must be refused once of every kind
    assert outcome.problems == []
    assert outcome.wrong == 0
    assert outcome.served == (HOSTILE - 1) * kinds + 1  # all others, and one after the burst
    assert kinds < outcome.refused < kinds + BURST  # a part of the burst too
    assert outcome.slow > 0
    assert outcome.cancelled > 0
    assert 0 < outcome.p50_ms <= outcome.p99_ms
