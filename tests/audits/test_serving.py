"""The short form of audits/serving.py: a server in a process of its own, and clients of every kind."""

from audits.serving import run


def test_a_server_under_load_answers_rightly_and_refuses_clearly() -> None:
    outcome = run(230, seed=0)  # every kind of refusal once
    assert outcome.problems == []
    assert outcome.wrong == 0
    assert outcome.served == 208  # the last one after the burst
    assert outcome.refused > 23
    assert outcome.slow > 0
    assert outcome.cancelled > 0
    assert 0 < outcome.p50_ms <= outcome.p99_ms
