"""A listening test of short tones."""

from __future__ import annotations

import pytest
from tone_test import Made, make


@pytest.fixture
def made(tmp_path) -> Made:
    return make(tmp_path / "listening")
