"""The messages that ``samplerctl replay`` reads: JSON as grpcurl, curl and buf write it, or binary."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.samplerctl.flag_values import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["join", "pair", "read", "read_saved", "self_contained"]

_ELSEWHERE = frozenset({"shared_memory", "cuda_shared_memory"})
"""Sources whose numbers are in no message."""

_Message = TypeVar("_Message", bound=Message)

_DRAFT_FIELDS = {"draftIds", "draft_ids", "target", "accepted"}
"""Fields of the messages of VerifyDraft in JSON."""


def read(path: str, kind: type[_Message]) -> list[_Message]:
    """Return the messages of a file, or of standard input for "-": JSON, one or several, or a single binary message.

    Raises:
        InputError: it cannot be read, or holds something else; the message names the field that is not known.

    """
    name, data = _contents(path)
    objects = _objects(data)
    if objects is None:
        return [_from_bytes(data, kind, name)]
    if not objects:
        raise InputError(f"{name} is empty: expected a {kind.DESCRIPTOR.name}")
    return [_from_object(value, kind, name) for value in objects]


def read_saved(path: str) -> tuple[list[pb.SampleRequest], list[pb.SampleResponse]]:
    """Return the requests and the replies of a file that ``samplerctl sample --save`` wrote, or of several in a row.

    Raises:
        InputError: it cannot be read, or is something else.

    """
    name, data = _contents(path)
    objects = _objects(data)
    if not objects or any(own.keys() != {"request", "reply"} for own in objects):
        raise InputError(f"{name} was not written by samplerctl sample --save: give REQUEST_FILE and REPLY_FILE")
    return (
        [_from_object(own["request"], pb.SampleRequest, f"{name}: request") for own in objects],
        [_from_object(own["reply"], pb.SampleResponse, f"{name}: reply") for own in objects],
    )


def _contents(path: str) -> tuple[str, bytes]:
    """Return the name of a file, for messages, and what it holds."""
    try:
        if path == "-":
            return "standard input", sys.stdin.buffer.read()
        return path, Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _objects(data: bytes) -> list[Any] | None:
    """Return the JSON objects that stand one after the other; None where the bytes are no JSON."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None
    decoder, objects = json.JSONDecoder(), list[Any]()
    if text and text[0] != "{":
        return None
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except RecursionError:
            raise InputError("the JSON cannot be read: it is nested too deeply") from None
        except json.JSONDecodeError as error:
            # Few binary messages begin like an object, and no object that is cut off begins with a key of a message.
            return None if not text.lstrip("{ \n\r\t").startswith('"') else _refuse(error)
        objects.append(value)
        text = text[end:].lstrip()
    return objects


def _refuse(error: json.JSONDecodeError) -> list[Any]:
    raise InputError(f"the JSON cannot be read: {error}")


def _from_object(value: Any, kind: type[_Message], name: str) -> _Message:
    message = kind()
    try:
        ParseDict(value, message)
    except (ParseError, AttributeError, TypeError) as error:
        hint = "; --draft is for those of VerifyDraft" if _DRAFT_FIELDS & value.keys() else ""
        text = str(error).partition("\n")[0]
        raise InputError(f"{name} is no {kind.DESCRIPTOR.name}: {text}{hint}") from None
    return message


def _from_bytes(data: bytes, kind: type[_Message], name: str) -> _Message:
    try:
        message = kind.FromString(data)
    except DecodeError:
        raise InputError(f"{name} is neither JSON nor a binary {kind.DESCRIPTOR.name}") from None
    for path, number in _unknown(message, ""):
        within = f" of {path}" if path else ""
        raise InputError(
            f"{name} is no {kind.DESCRIPTOR.name} that this samplerctl knows: it has a field {number}{within}"
        )
    return message


def _unknown(message: Message, path: str) -> Iterator[tuple[str, int]]:
    """Yield the fields that this version of the contract does not have: where each is, and its number."""
    for field in UnknownFieldSet(message):  # type: ignore[attr-defined]  # the stub has no __iter__
        yield path, field.field_number
    for known, value in message.ListFields():
        if known.type == known.TYPE_MESSAGE:
            for own in [value] if isinstance(value, Message) else value:
                yield from _unknown(own, f"{path}.{known.name}".lstrip("."))


def pair(
    requests: Sequence[pb.SampleRequest], replies: Sequence[pb.SampleResponse]
) -> list[tuple[pb.SampleRequest, pb.SampleResponse]]:
    """Return each request with its reply, whose chunks are joined.

    Raises:
        InputError: ids do not match, or a part of a reply is missing.

    """
    by_id: dict[int, list[pb.SampleResponse]] = {}
    for reply in replies:
        by_id.setdefault(reply.id, []).append(reply)
    pairs = []
    for request in requests:
        parts = by_id.pop(request.id, None)
        if parts is None:
            others = f"; there is a reply with id {', '.join(map(str, by_id))}" if by_id else ""
            raise InputError(f"id: no reply, or no second one, has the id {request.id} of a request{others}")
        pairs.append((request, join(parts)))
    if by_id:
        raise InputError(f"id: no request has the id {', '.join(map(str, by_id))} of a reply")
    return pairs


def join(parts: Sequence[pb.SampleResponse]) -> pb.SampleResponse:
    """Return the whole reply.

    Raises:
        InputError: it tells of an error, or a chunk is missing.

    """
    whole = pb.SampleResponse()
    whole.CopyFrom(parts[0])
    if whole.HasField("error"):
        raise InputError(f"error: nothing was drawn for the request with id {whole.id}: {whole.error.message}")
    if [part.chunk for part in parts] != list(range(len(parts))):
        raise InputError(f"chunk: the reply with id {whole.id} has the chunks {[part.chunk for part in parts]}")
    if not parts[-1].final:
        raise InputError(f"final: the reply with id {whole.id} ends with a chunk that is not the last one")
    for part in parts[1:]:
        raw = whole.raw_samples + part.raw_samples
        for own, more in zip(whole.logprobs, part.logprobs, strict=False):
            values = own.raw_samples + more.raw_samples
            own.MergeFrom(more)
            own.raw_samples = values
        rest = pb.SampleResponse()
        rest.CopyFrom(part)
        rest.ClearField("logprobs")
        whole.MergeFrom(rest)
        whole.raw_samples = raw
    return whole


def self_contained(
    request: pb.SampleRequest, reply: pb.SampleResponse, upload: pb.CreateDistributionRequest | None
) -> pb.SampleRequest:
    """Return the request with the seed of its reply, and with the rows that it names.

    Raises:
        InputError: something that a replay needs is neither in the messages nor in the upload; the message names it.

    """
    whole = pb.SampleRequest()
    whole.CopyFrom(request)
    if not request.row_seeds and not request.HasField("seed"):
        whole.seed = reply.seed
    elif reply.seed != request.seed:
        raise InputError(f"seed: the reply has {reply.seed}, where the request says {request.seed}")
    for prefix, message in (("", request), ("guidance.", request.guidance)):
        source = message.WhichOneof("source")
        if source in _ELSEWHERE:
            raise InputError(
                f"{prefix}{source}: the numbers are not in the request, which cannot be replayed: send a tensor"
            )
    if not request.HasField("distribution"):
        return whole
    if upload is None:
        raise InputError(
            f"distribution: the rows of {request.distribution!r} are not in the request: "
            "give the CreateDistributionRequest with --upload"
        )
    return _with_rows(whole, upload)


def _with_rows(request: pb.SampleRequest, upload: pb.CreateDistributionRequest) -> pb.SampleRequest:
    if upload.name not in {"", request.distribution}:
        raise InputError(f"distribution: the request names {request.distribution!r}, and the upload {upload.name!r}")
    if (source := upload.WhichOneof("source")) in _ELSEWHERE:
        raise InputError(f"upload.{source}: the numbers are not in the upload, which cannot be replayed")
    if upload.HasField("params") and (request.HasField("params") or request.row_params):
        raise InputError("params: the upload fixes the parameters, and a request for it carries none")
    if upload.HasField("values"):
        request.values.CopyFrom(upload.values)
    else:
        request.tensor.CopyFrom(upload.tensor)
    request.kind = upload.kind
    if upload.HasField("params"):
        request.params.CopyFrom(upload.params)
    return request
