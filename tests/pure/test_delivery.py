"""A stored message as frames: what is encoded is what is read back, and it is encoded once."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pure.bounds import BOUNDED
from trio_chat.wire.delivery import Delivery, decode_delivery

INT64 = 2**63 - 1

IDS = st.integers(1, 9) | st.integers(1, INT64)
TEXTS = st.text(max_size=30) | st.text(
    st.sampled_from('\x00\x01\x1f\x7f"\\/\n\r\u2028\ufeff\uffff\U0001f600é'), max_size=30
)
DELIVERIES = st.builds(
    lambda group, one, other, **fields: Delivery(
        conv=f"g:{other}" if group else f"d:{min(one, other)}:{max(one, other)}", sender=one, to=other, **fields
    ),
    group=st.booleans(),
    one=IDS,
    other=IDS,
    seq=IDS,
    ts=st.integers(0, INT64),
    name=TEXTS,
    msg=TEXTS,
    time=TEXTS,
    key=st.none() | TEXTS,
)


def facts(delivery: Delivery) -> tuple[object, ...]:
    d = delivery
    return d.conv, d.seq, d.ts, d.sender, d.name, d.to, d.msg, d.time, d.key


def direct(**changes: Any) -> Delivery:
    fields = {"conv": "d:1:2", "seq": 3, "ts": 4, "sender": 1, "name": "ann", "to": 2, "msg": "hi", "time": "now"}
    return Delivery(**{**fields, **changes})


@BOUNDED
@given(DELIVERIES)
def test_what_is_encoded_is_what_is_read_back(delivery: Delivery) -> None:
    frame = delivery.modern()
    again = decode_delivery(frame)
    assert facts(again) == facts(delivery)
    assert again.is_group == delivery.is_group == delivery.conv.startswith("g:")
    assert again.modern() is frame, "what came over the bus goes out as it came"
    assert again.fields() == json.loads(frame) == delivery.fields()
    assert again.classic() == delivery.classic()


@BOUNDED
@given(DELIVERIES)
def test_the_modern_frame_is_the_classic_one_and_more(delivery: Delivery) -> None:
    modern, classic = json.loads(delivery.modern()), json.loads(delivery.classic())
    more = {"conv", "seq", "ts"} | ({"key"} if delivery.key is not None else set())
    assert {name: modern[name] for name in classic} == classic == delivery.classic_fields()
    assert set(modern) - set(classic) == more
    for frame in (delivery.modern(), delivery.classic()):
        assert b"\n" not in frame
        assert b"\0" not in frame


def test_each_frame_is_encoded_once() -> None:
    delivery = direct()
    assert delivery.modern() is delivery.modern()
    assert delivery.classic() is delivery.classic()


def test_a_direct_message() -> None:
    assert json.loads(direct(key="k").modern()) == {
        "msgid": 6,
        "id": 1,
        "name": "ann",
        "toid": 2,
        "msg": "hi",
        "time": "now",
        "conv": "d:1:2",
        "seq": 3,
        "ts": 4,
        "key": "k",
    }
    assert direct().classic() == b'{"msgid":6,"id":1,"name":"ann","toid":2,"msg":"hi","time":"now"}'


def test_a_group_message() -> None:
    delivery = direct(conv="g:9", to=9)
    assert json.loads(delivery.modern()) == {
        "msgid": 10,
        "id": 1,
        "name": "ann",
        "groupid": 9,
        "msg": "hi",
        "time": "now",
        "conv": "g:9",
        "seq": 3,
        "ts": 4,
    }
    assert delivery.classic() == b'{"msgid":10,"id":1,"name":"ann","groupid":9,"msg":"hi","time":"now"}'


def test_a_message_to_oneself() -> None:
    assert decode_delivery(direct(conv="d:1:1", to=1).modern()).to == 1


FIELDS = direct().fields()
NOT_DELIVERIES = {
    "empty": b"",
    "text": b"hello",
    "array": b"[]",
    "nothing in it": b"{}",
    "invalid UTF-8": direct().modern().replace(b"hi", b"\xff"),
    "lone surrogate": direct().modern().replace(b"hi", rb"\ud800"),
    "cut off": direct().modern()[:-1],
    "100,000 brackets": b'{"x":' + b"[" * 100_000,
    **{f"without {name}": json.dumps(FIELDS | {name: None}).encode() for name in FIELDS if name != "toid"},
    **{f"{name} of a wrong type": json.dumps(FIELDS | {name: [5]}).encode() for name in FIELDS},
}


@pytest.mark.parametrize("frame", NOT_DELIVERIES.values(), ids=NOT_DELIVERIES.keys())
def test_what_is_no_delivery_is_refused_by_the_documented_errors(frame: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        decode_delivery(frame)


@BOUNDED
@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from([*FIELDS, "groupid", "key", "x"]), st.none() | st.integers() | st.text(max_size=3) | st.floats()
    ).map(lambda fields: json.dumps(FIELDS | fields).encode())
)
def test_no_other_error_escapes(frame: bytes) -> None:
    try:
        delivery = decode_delivery(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert delivery.modern() is frame
