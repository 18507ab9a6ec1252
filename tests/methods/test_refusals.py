"""Any word given to --set is parsed or refused."""

from hypothesis import example, given
from hypothesis import strategies as st

from cocoop import UsageError
from cocoop.methods._settings import parse_overrides
from tests.refusals import FUZZ, refusal


@FUZZ
@given(st.text(max_size=40))
@example("coop.n_ctx=" + "[" * 100_000)
def test_any_setting_is_parsed_or_refused(word: str) -> None:
    assert refusal(lambda: parse_overrides([word]), UsageError) != ""
