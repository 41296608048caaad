"""Installers may choose the wheel of websockets that has no compiled module in it."""

import sys
from importlib.util import find_spec, module_from_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nti.appserver.websocket import frames


@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_payloads_are_masked_the_same(payload: bytes, mask: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "websockets.speedups", None)
        spec = find_spec("nti.appserver.websocket.frames")
        assert spec is not None
        assert spec.loader is not None
        copy = module_from_spec(spec)
        spec.loader.exec_module(copy)
    assert copy.apply_mask is not frames.apply_mask
    assert copy.apply_mask(payload, mask) == frames.apply_mask(payload, mask)
    assert copy.apply_mask(memoryview(payload), mask) == frames.apply_mask(payload, mask)
