"""Every user id of every request becomes a pseudonym, and pseudonyms under chained keys hold together."""

from __future__ import annotations

import base64
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

import tideline
from tideline.clickstream.v1 import interaction_service_pb2, session_service_pb2
from tideline.rpc.pseudonyms import UserKeys, WrongUserKeys
from tideline.rpc.user_ids import UserIds

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, MethodDescriptor
    from google.protobuf.message import Message

SETTING = "THE_KEYS_FILE"
PROTOS = Path(tideline.__file__).parent
MODULES = sorted(
    ".".join(("tideline", *path.relative_to(PROTOS).with_suffix("").parts)) + "_pb2"
    for path in PROTOS.rglob("*_service.proto")
)
USER_IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=60)
KEYS = [(f"k{number}", bytes([number]) * 32) for number in range(1, 6)]


def methods() -> list[MethodDescriptor]:
    files = [__import__(name, fromlist=["DESCRIPTOR"]).DESCRIPTOR for name in MODULES]
    return [method for file in files for service in file.services_by_name.values() for method in service.methods]


def messages(descriptor: Descriptor, seen: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """All types of messages inside one, itself included."""
    if descriptor.full_name not in seen:
        seen[descriptor.full_name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                messages(field.message_type, seen)
    return seen


REQUESTS = {method.input_type.full_name: method.input_type for method in methods()}


def filled(descriptor: Descriptor, numbers: count[int], depth: int = 0) -> Message:
    """A message with a text of its own in every field, two in those that repeat, types inside themselves twice."""
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is None:
            if field.type != FieldDescriptor.TYPE_STRING:
                continue
            if field.is_repeated:
                getattr(message, field.name).extend(f"{field.name} {next(numbers)}" for _ in range(2))
            elif field.containing_oneof is None or not message.WhichOneof(field.containing_oneof.name):
                setattr(message, field.name, f"{field.name} {next(numbers)}")
        elif not field.message_type.full_name.startswith("google.protobuf.") and depth < 8:
            if field.message_type.GetOptions().map_entry:
                continue
            if field.is_repeated:
                getattr(message, field.name).extend(filled(field.message_type, numbers, depth + 1) for _ in range(2))
            elif field.containing_oneof is None or depth % 4 == list(field.containing_oneof.fields).index(field) % 4:
                getattr(message, field.name).CopyFrom(filled(field.message_type, numbers, depth + 1))
    return message


def texts(message: Any) -> list[tuple[str, str]]:
    """The name and the text of all fields, however deep."""
    found: list[tuple[str, str]] = []
    for field, value in message.ListFields():
        values = list(value) if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_STRING:
            found += [(field.name, text) for text in values]
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in values:
                found += texts(inner)
    return found


def test_user_ids_have_the_names_that_they_are_found_by() -> None:
    kinds: dict[str, Descriptor] = {}
    for method in methods():
        messages(method.input_type, kinds)
        messages(method.output_type, kinds)
    fields = [field for kind in kinds.values() for field in kind.fields]
    named = {field.name for field in fields if field.type == FieldDescriptor.TYPE_STRING and "user" in field.name}
    assert named == {"user_id", "user_ids"}
    in_maps = [
        field.full_name
        for field in fields
        if field.message_type is not None
        and field.message_type.GetOptions().map_entry
        and UserIds.of(field.message_type).any()
    ]
    assert in_maps == [], "these would be missed"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_no_user_id_of_a_request_is_missed_and_nothing_else_is_touched(name: str) -> None:
    given_message = filled(REQUESTS[name], count())
    before = texts(given_message)
    UserIds.of(REQUESTS[name]).replace(given_message, lambda user_id, _: f"<{user_id}>")
    expected = [(name, f"<{text}>" if name in {"user_id", "user_ids"} else text) for name, text in before]
    assert texts(given_message) == expected
    assert UserIds.of(REQUESTS[name]).any() == (expected != before)


def test_there_are_requests_with_user_ids_in_every_shape() -> None:
    paths: list[str] = []
    for kind in (interaction_service_pb2.ListInteractionsRequest, session_service_pb2.BatchCreateSessionsRequest):
        UserIds.of(kind.DESCRIPTOR).replace(
            filled(kind.DESCRIPTOR, count()), lambda user_id, path: paths.append(path) or user_id
        )
    assert "sessions[1].user_id" in paths
    assert any(path.endswith("match.user_ids[1]") and path.startswith("filter.") for path in paths)


@given(user_id=USER_IDS, middle=st.integers(1, 5), last=st.integers(1, 5))
def test_a_pseudonym_is_the_same_whichever_way_it_was_come_to(user_id: str, middle: int, last: int) -> None:
    middle, last = sorted((middle, last))
    older, newer = UserKeys(KEYS[:middle]), UserKeys(KEYS[:last])
    there = newer.pseudonym(user_id)
    assert newer.pseudonym(older.pseudonym(user_id)) == there
    assert newer.pseudonym(there) == there
    assert there.startswith(f"~k{last}~")
    assert len(there) == 47
    assert user_id not in there or len(user_id) < 4
    assert not newer.is_foreign(there)
    assert older.is_foreign(there) == (middle < last)


@given(st.lists(USER_IDS, min_size=2, max_size=20, unique=True))
def test_users_stay_apart_and_nobody_stays_nobody(user_ids: list[str]) -> None:
    keys = UserKeys(KEYS[:2])
    assert len({keys.pseudonym(user_id) for user_id in user_ids}) == len(user_ids)
    assert keys.pseudonym("") == ""


def test_it_is_hmac_sha256_as_anybody_can_compute_it() -> None:
    # printf ann | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101..01 -binary | base64, with - for + and _ for /
    assert UserKeys(KEYS[:1]).pseudonym("ann") == "~k1~1rT-T7WlVure3nDGZ0Dzh2ppz2K1eQZdLRsJocK1aVY"


def test_keys_are_recognised_by_their_check_and_their_order() -> None:
    checks = [
        UserKeys(keys).check for keys in (KEYS[:1], KEYS[:2], KEYS[1::-1], [("k1", KEYS[0][1]), ("k2", b"9" * 32)])
    ]
    assert len(set(checks)) == 4
    up_to = UserKeys(KEYS).up_to("k2")
    assert up_to is not None
    assert up_to.check == checks[1]
    assert UserKeys(KEYS).up_to("k9") is None


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_has_a_key_a_line_and_the_last_one_is_the_newest(tmp_path: Path) -> None:
    lines = [f"{key_id}:{base64.b64encode(key).decode()}" for key_id, key in KEYS[:2]]
    path = written(tmp_path / "keys", "# ours\n" + "\n\n".join(lines) + "\n", 0o640)
    read = UserKeys.read(path, SETTING)
    assert read.newest == "k2"
    assert read.pseudonym("ann") == UserKeys(KEYS[:2]).pseudonym("ann")


SECRET = base64.b64encode(b"a very secret key of 33 bytes ...").decode()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("", 0o600, "has no key"),
        (f"k1:{SECRET}", 0o604, "chmod"),
        (f"k1 {SECRET}", 0o600, "line 1: has to be ID:BASE64"),
        (f"k~1:{SECRET}", 0o600, "line 1: has to be ID:BASE64"),
        (f"# one\nk1:{SECRET}*", 0o600, "line 2: what follows"),
        ("k1:c2hvcnQ=", 0o600, "at least 32 bytes"),
        (f"k1:{SECRET}\nk1:{base64.b64encode(b'x' * 32).decode()}", 0o600, "twice"),
        (f"k1:{SECRET}\nk2:{SECRET}", 0o600, "twice"),
        (f"k1:{SECRET}é", 0o600, "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_the_key(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(WrongUserKeys, match=said) as failure:
        UserKeys.read(written(tmp_path / "keys", text, mode), SETTING)
    assert failure.value.__context__ is None or failure.value.__suppress_context__, "it may quote the key"
    told = f"{failure.value!r} {failure.value.__cause__!r}"
    assert SETTING in told
    assert SECRET[:12] not in told


def test_a_file_that_is_not_there_is_told_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(WrongUserKeys, match=f"{SETTING}: .*FileNotFoundError"):
        UserKeys.read(tmp_path / "none", SETTING)
    with pytest.raises(WrongUserKeys, match=f"{SETTING}: .*IsADirectoryError"):
        UserKeys.read(tmp_path, SETTING)
