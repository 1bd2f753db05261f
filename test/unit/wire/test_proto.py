"""Our trimmed protos against the published ones: nothing renamed, renumbered or retyped."""

import importlib
from pathlib import Path

import grpc_health.v1.health_pb2
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from epp.request.gen import httpbody_pb2, vllm_engine_pb2
from epp.wire.gen import (
    base_pb2,
    external_processor_pb2,
    health_pb2,
    http_status_pb2,
    processing_mode_pb2,
)

MODULES = (
    base_pb2,
    external_processor_pb2,
    health_pb2,
    http_status_pb2,
    httpbody_pb2,
    processing_mode_pb2,
    vllm_engine_pb2,
)
UPSTREAM = Path(__file__).parents[3] / "proto" / "upstream.binpb"


def file_of(module) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def published() -> dict[str, FileDescriptorProto]:
    files = {file.name: file for file in FileDescriptorSet.FromString(UPSTREAM.read_bytes()).file}
    health = file_of(grpc_health.v1.health_pb2)
    return {**files, "grpc/health/v1/health.proto": health}


def facts(file: FileDescriptorProto) -> set[tuple]:
    """Everything a peer can notice: packages, messages, fields, enum values, methods."""
    found: set[tuple] = {("package", file.package), ("syntax", file.syntax)}
    for message in file.message_type:
        found |= facts_of_message(f"{file.package}.{message.name}", message)
    for enum in file.enum_type:
        found |= facts_of_enum(f"{file.package}.{enum.name}", enum)
    for service in file.service:
        for rpc in service.method:
            types = (rpc.input_type, rpc.client_streaming, rpc.output_type, rpc.server_streaming)
            found.add(("rpc", f"{file.package}.{service.name}/{rpc.name}", *types))
    return found


def facts_of_message(name: str, message) -> set[tuple]:
    found: set[tuple] = {("message", name, message.options.map_entry)}
    for field in message.field:
        group = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        kind = (field.number, field.type, field.type_name, field.label, group)
        found.add(("field", f"{name}.{field.name}", *kind, field.proto3_optional))
    for nested in message.nested_type:
        found |= facts_of_message(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        found |= facts_of_enum(f"{name}.{enum.name}", enum)
    return found


def facts_of_enum(name: str, enum) -> set[tuple]:
    return {("enum", name)} | {("value", name, value.name, value.number) for value in enum.value}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_message_field_and_number_is_the_published_one(module):
    ours = file_of(module)

    assert facts(ours) - facts(published()[ours.name]) == set()


def test_a_renumbered_field_would_be_noticed():
    ours = file_of(external_processor_pb2)
    theirs = facts(published()[ours.name])
    body = next(message for message in ours.message_type if message.name == "HttpBody")

    body.field[1].number = 9

    assert {fact[1] for fact in facts(ours) - theirs} == {
        "envoy.service.ext_proc.v3.HttpBody.end_of_stream"
    }


def test_a_message_is_whole_where_silence_would_lose_meaning():
    """Reading a cut-down request must not lose which kind of message it is."""
    (ours,) = (
        m for m in file_of(external_processor_pb2).message_type if m.name.endswith("gRequest")
    )
    published_file = published()["envoy/service/ext_proc/v3/external_processor.proto"]
    (theirs,) = (m for m in published_file.message_type if m.name == ours.name)

    def kinds(message):
        return {field.name for field in message.field if field.HasField("oneof_index")}

    assert kinds(ours) == kinds(theirs)


def test_our_descriptors_stay_out_of_the_process_wide_pool():
    importlib.import_module("grpc_health.v1.health_pb2")

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName(
            "envoy/service/ext_proc/v3/external_processor.proto"
        )
