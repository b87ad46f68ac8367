"""docs/protocol.md, from the contract and its comments."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2 as descriptors
from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["page"]

_PROTOS = Path(__file__).parents[2] / "protos"
_SOURCE = "samplerd/v1/sampler.proto"
_HEAD = """\
# The contract

What `samplerd/v1/sampler.proto` says, service by service and field by field. How it may change:
[compatibility.md](compatibility.md). What draws mean: [sampling.md](sampling.md). Numbers are those of the wire.

This page is generated from the contract's comments by `make generate`.

## Over which protocols

The path of a method is `/` service `/` method, such as `/samplerd.v1.SamplerService/Sample`, in every protocol. What
answers, what it costs and how it is limited are the same in all of them. Lines to try: [by_hand.md](by_hand.md).
gRPC-Web and Connect are as [PROTOCOL-WEB.md](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md) and
[connectrpc.com](https://connectrpc.com/docs/protocol) say.

| | gRPC | gRPC-Web | Connect, unary | Connect, streams |
|---|---|---|---|---|
| with | both transports | `envoy` | `envoy` | `envoy` |
| HTTP | 2 | 1.1, 2 | 1.1, 2 | 1.1, 2; both ways at once over 2 |
| content type `application/` | `grpc`, `grpc+proto` | `grpc-web`, `grpc-web+proto`, `grpc-web-text`, \
`grpc-web-text+proto` | `json`, `proto` | `connect+json`, `connect+proto` |
| deadline | `grpc-timeout` | `grpc-timeout` | `connect-timeout-ms` | `connect-timeout-ms` |
| encoding of a request | `grpc-encoding` | `grpc-encoding` | `content-encoding` | `connect-content-encoding` |
| long replies in gzip, if named in | never | `grpc-accept-encoding` | `accept-encoding` | `connect-accept-encoding` |
| status | trailers | last frame | status of HTTP, and JSON | last frame, JSON |
| details of an error | `grpc-status-details-bin` | the same | `details`: type, base64, and JSON as `debug` | the same |

A request may be compressed with gzip or deflate; what it inflates to counts against `limits.max_message_bytes`, and
more is RESOURCE_EXHAUSTED. Another encoding is UNIMPLEMENTED, and the message names these.

Connect's GET calls the unary methods that say *no side effects* below, with the parameters `encoding` (`json` or
`proto`), `message`, `base64` (1: the message is base64url), `compression` and `connect` (`v1`); any other
method answers 405. Its
replies are not to be cached (`cache-control: no-store`).

"""
_Field = descriptors.FieldDescriptorProto
_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in _Field.Type.items()
    if number not in {_Field.TYPE_MESSAGE, _Field.TYPE_ENUM, _Field.TYPE_GROUP}
}
# Paths of SourceCodeInfo: the numbers of descriptor.proto's own fields.
_MESSAGE, _ENUM, _SERVICE, _OF_FILE_SYNTAX = 4, 5, 6, 12
_FIELD, _NESTED, _VALUE, _METHOD = 2, 3, 2, 2


class Comments:
    """What is written above each element, by its path."""

    def __init__(self, file: descriptors.FileDescriptorProto) -> None:
        self._by_path = {tuple(place.path): place for place in file.source_code_info.location}

    def text(self, *path: int) -> str:
        """Give the comment as paragraphs, without what is said to linters.

        Raises:
            ValueError: there is none.

        """
        place = self._by_path.get(path)
        lines = place.leading_comments.splitlines() if place is not None else []
        kept = [line.strip() for line in lines if not line.strip().startswith("buf:lint:")]
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", "\n".join(kept)).strip()
        if not text:
            raise ValueError(f"{_SOURCE}: nothing is said about the element at {path}")
        return text

    def head(self) -> str:
        """Give the comment that the file begins with."""
        return self.text(_OF_FILE_SYNTAX)


def read_contract() -> descriptors.FileDescriptorProto:
    """Read the contract, comments included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.binpb"
        includes = (f"-I{_PROTOS}", f"-I{_PROTOS / 'third_party'}", f"-I{Path(protoc.__file__).parent / '_proto'}")
        arguments = ("protoc", *includes, "--include_source_info", f"--descriptor_set_out={out}", _SOURCE)
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"{_SOURCE} cannot be compiled")
        [file] = descriptors.FileDescriptorSet.FromString(out.read_bytes()).file
        return file


def page() -> str:
    """Give the page as text."""
    file = read_contract()
    comments = Comments(file)
    known = {name for name, _, _ in _messages(file)} | {enum.name for enum in file.enum_type}
    parts = [_HEAD + comments.head() + "\n"]
    for at, service in enumerate(file.service):
        parts.append(_service(service, comments, (_SERVICE, at)))
    parts.append("## Messages\n")
    parts += [_message(name, message, comments, path, known) for name, message, path in _messages(file)]
    parts.append("## Enums\n")
    parts += [_enum(enum, comments, (_ENUM, at)) for at, enum in enumerate(file.enum_type)]
    return "\n".join(parts)


def _messages(
    file: descriptors.FileDescriptorProto,
) -> Iterator[tuple[str, descriptors.DescriptorProto, tuple[int, ...]]]:
    for at, message in enumerate(file.message_type):
        yield message.name, message, (_MESSAGE, at)
        for inner, nested in enumerate(message.nested_type):
            yield f"{message.name}.{nested.name}", nested, (_MESSAGE, at, _NESTED, inner)


def _service(service: descriptors.ServiceDescriptorProto, comments: Comments, path: tuple[int, ...]) -> str:
    lines = [f"## {service.name}\n", comments.text(*path), ""]
    for at, method in enumerate(service.method):
        asked = _streamed(method.input_type, is_stream=method.client_streaming)
        answered = _streamed(method.output_type, is_stream=method.server_streaming)
        lines += [f"### {method.name}\n", f"{asked} → {answered}{_again(method)}\n"]
        lines += [comments.text(*path, _METHOD, at), ""]
    return "\n".join(lines)


def _streamed(type_name: str, *, is_stream: bool) -> str:
    return ("stream of " if is_stream else "") + _link(type_name)


def _again(method: descriptors.MethodDescriptorProto) -> str:
    """Say whether asking twice does harm."""
    levels = descriptors.MethodOptions
    level = method.options.idempotency_level
    return {levels.NO_SIDE_EFFECTS: " · no side effects", levels.IDEMPOTENT: " · idempotent"}.get(level, "")


def _message(
    name: str, message: descriptors.DescriptorProto, comments: Comments, path: tuple[int, ...], known: set[str]
) -> str:
    lines = [f"### {name}\n", comments.text(*path), ""]
    if message.field:
        lines += ["| # | field | type | |", "|---|---|---|---|"]
    for at, field in enumerate(message.field):
        text = comments.text(*path, _FIELD, at)
        lines.append(f"| {field.number} | `{field.name}` | {_type(field, message, known)} | {_cell(text)} |")
    return "\n".join(lines) + "\n" * bool(message.field)


def _type(field: _Field, message: descriptors.DescriptorProto, known: set[str]) -> str:
    name = _SCALARS.get(field.type) or _link(field.type_name, known)
    if field.label == _Field.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    if field.HasField("oneof_index"):
        return f"{name}, one of *{message.oneof_decl[field.oneof_index].name}*"
    return name


def _enum(enum: descriptors.EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> str:
    lines = [f"### {enum.name}\n", comments.text(*path), "", "| # | value | |", "|---|---|---|"]
    for at, value in enumerate(enum.value):
        lines.append(f"| {value.number} | `{value.name}` | {_cell(comments.text(*path, _VALUE, at))} |")
    return "\n".join(lines) + "\n"


def _link(type_name: str, known: set[str] | None = None) -> str:
    """Link to a type of this page, and name others in full."""
    name = type_name.removeprefix(".samplerd.v1.")
    if name == type_name or (known is not None and name not in known):
        return f"`{type_name.removeprefix('.')}`"
    return f"[{name}](#{name.lower().replace('.', '')})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n\n", "<br>")
