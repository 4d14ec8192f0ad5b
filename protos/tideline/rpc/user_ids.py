"""Puts pseudonyms in the place of user ids as requests come in, so that nothing behind this knows another name.

User ids are the string fields named `user_id` and `user_ids`, wherever they are in a message. It acts behind the
checks of the contract, which are about ids as they are sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.descriptor import FieldDescriptor

from tideline.errors import InvalidField
from tideline.rpc.pseudonyms import MAX_ID_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from tideline.rpc.pseudonyms import UserKeys

    _Context = grpc.aio.ServicerContext[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]

NAMES: Final = ("user_id", "user_ids")


class UserIds:
    """The user ids in messages of one type: where they are is found out once."""

    _known: Final[dict[str, UserIds]] = {}

    def __init__(self, descriptor: Descriptor) -> None:
        """Use `of`, which remembers; types may hold themselves, as filters do."""
        self._known[descriptor.full_name] = self
        fields = [field for field in descriptor.fields if _is_user_id(field)]
        self._single = [field.name for field in fields if not field.is_repeated]
        self._lists = [field.name for field in fields if field.is_repeated]
        self._message: list[tuple[str, UserIds]] = []
        self._messages: list[tuple[str, UserIds]] = []
        for field in descriptor.fields:
            if field.message_type is not None and _holds(field.message_type):
                inner = self._messages if field.is_repeated else self._message
                inner.append((field.name, self.of(field.message_type)))

    @classmethod
    def of(cls, descriptor: Descriptor) -> UserIds:
        """Return what is known of a type."""
        return cls._known.get(descriptor.full_name) or cls(descriptor)

    def any(self) -> bool:
        """Whether messages of the type can have any."""
        return bool(self._single or self._lists or self._message or self._messages)

    def replace(self, message: Message, by: Callable[[str, str], str], path: str = "") -> None:
        """Put what `by` returns for an id and its path in the place of each."""
        for name in self._single:
            if user_id := getattr(message, name):
                setattr(message, name, by(user_id, path + name))
        for name in self._lists:
            given = getattr(message, name)
            given[:] = [by(user_id, f"{path}{name}[{place}]") for place, user_id in enumerate(given)]
        for name, inner in self._message:
            if message.HasField(name):
                inner.replace(getattr(message, name), by, f"{path}{name}.")
        for name, inner in self._messages:
            for place, item in enumerate(getattr(message, name)):
                inner.replace(item, by, f"{path}{name}[{place}].")


class PseudonymInterceptor(grpc.aio.ServerInterceptor):
    """Replaces user ids in the requests of all calls that have any; belongs behind the contract's interceptor."""

    def __init__(self, keys: UserKeys) -> None:
        self._keys = keys

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        handler = await continuation(handler_call_details)
        kind: Any = getattr(getattr(handler, "request_deserializer", None), "__self__", None)
        if handler is None or (kind is not None and not UserIds.of(kind.DESCRIPTOR).any()):
            return handler
        return _wrapped(handler, self._replaced)

    def _replaced(self, request: Any) -> Message:
        UserIds.of(request.DESCRIPTOR).replace(request, self._pseudonym)
        return request  # type: ignore[no-any-return]

    def _pseudonym(self, user_id: str, path: str) -> str:
        if "\0" in user_id or len(user_id.encode()) > MAX_ID_BYTES:
            # Items of a batch are checked one by one, behind this: what the contract refuses there must stay so.
            return user_id
        if self._keys.is_foreign(user_id):
            raise InvalidField("is a pseudonym under a key that this service does not have", field=path)
        return self._keys.pseudonym(user_id)


def _wrapped(handler: Any, replaced: Callable[[Message], Message]) -> _Handler:
    how = handler.request_deserializer, handler.response_serializer
    if handler.request_streaming and handler.response_streaming:

        def stream_stream(requests: AsyncIterator[Message], context: _Context) -> AsyncIterator[Any]:
            return handler.stream_stream(_all(requests, replaced), context)  # type: ignore[no-any-return]

        return grpc.stream_stream_rpc_method_handler(stream_stream, *how)
    if handler.request_streaming:

        async def stream_unary(requests: AsyncIterator[Message], context: _Context) -> Any:
            return await handler.stream_unary(_all(requests, replaced), context)

        return grpc.stream_unary_rpc_method_handler(stream_unary, *how)
    if handler.response_streaming:

        def unary_stream(request: Message, context: _Context) -> AsyncIterator[Any]:
            return handler.unary_stream(replaced(request), context)  # type: ignore[no-any-return]

        return grpc.unary_stream_rpc_method_handler(unary_stream, *how)

    async def unary_unary(request: Message, context: _Context) -> Any:
        return await handler.unary_unary(replaced(request), context)

    return grpc.unary_unary_rpc_method_handler(unary_unary, *how)


async def _all(requests: AsyncIterator[Message], replaced: Callable[[Message], Message]) -> AsyncIterator[Message]:
    async for request in requests:
        yield replaced(request)


def _is_user_id(field: FieldDescriptor) -> bool:
    return field.name in NAMES and field.type == FieldDescriptor.TYPE_STRING


def _holds(descriptor: Descriptor) -> bool:
    """Whether a type has user ids in it, however deep."""
    return any(_is_user_id(field) for kind in _within(descriptor, set()) for field in kind.fields)


def _within(descriptor: Descriptor, seen: set[str]) -> Iterator[Descriptor]:
    if descriptor.full_name not in seen:
        seen.add(descriptor.full_name)
        yield descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                yield from _within(field.message_type, seen)
