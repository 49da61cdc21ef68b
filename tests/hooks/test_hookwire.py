"""The frames of hooks: what the hook sends is what the daemon reads, and no bytes raise anything unforeseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from cosession import hook
from cosession.hookwire import PREFIX, HookCodec
from cosession.messages.hooks import Hook, HookReply
from cosession.messages.limits import HOOK_PAYLOAD_BYTES_MAX
from cosession.wire import BadFrame, FramingLost

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0="), max_size=40)


def call(frame):
    buffer = bytearray(frame)
    found = HookCodec().split(buffer, 1)
    assert found == frame
    assert not buffer
    return msgpack.decode(HookCodec().decode_call(found).params, type=Hook)


@given(client=TEXT, event=TEXT, payload=TEXT, place=TEXT.filter(bool))
def test_what_is_sent_is_read(client, event, payload, place):
    facts = f"project={place}\0worktree={place}\0newer=x".encode()
    plain = hook._frame(client, event, b"", payload.encode())
    assert call(plain) == Hook(client=client, event=event, payload=payload)
    told = hook._frame(client, event, facts, payload.encode())
    assert call(told) == Hook(client=client, event=event, payload=payload, facts=True, project=place, worktree=place)


@given(data=st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: PREFIX + tail))
def test_whatever_comes_it_is_a_call_or_refused(data):
    codec = HookCodec()
    buffer = bytearray(data)
    try:
        while buffer and (frame := codec.split(buffer, 1)) is not None:
            codec.decode_call(frame)
    except (BadFrame, FramingLost):
        return
    assert len(buffer) < 12 + 255 + 255 + (1 << 16) + HOOK_PAYLOAD_BYTES_MAX


def test_a_frame_of_more_than_the_limit_is_not_waited_for():
    with pytest.raises(FramingLost):
        HookCodec().split(bytearray(PREFIX + bytes(4) + (HOOK_PAYLOAD_BYTES_MAX + 1).to_bytes(4)), 1)


def test_an_answer_is_as_the_hook_reads_it():
    framed = HookCodec().encode_reply(1, HookReply(revision=0, exit_code=2, output="ü", more=True))
    assert framed == hook.ANSWER + bytes((2, hook.MORE)) + (2).to_bytes(4, "big") + "ü".encode()
    assert hook.PREFIX == PREFIX
    assert hook.PAYLOAD_BYTES_MAX == HOOK_PAYLOAD_BYTES_MAX
