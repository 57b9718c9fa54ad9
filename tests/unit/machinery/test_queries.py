"""Parameters of URLs."""

from __future__ import annotations

import pytest

from kube.machinery.queries import flag


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, False), ("0", False), ("false", False), ("FALSE", False), ("", True), ("1", True), ("no", True)],
)
def test_only_what_is_not_there_or_says_so_is_false(value, wanted):
    assert flag({} if value is None else {"watch": value}, "watch") is wanted
