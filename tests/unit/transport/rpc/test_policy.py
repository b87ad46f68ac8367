"""Methods that a policy names and the server does not have."""

from __future__ import annotations

from samplerd_server.app.app import RPCS
from samplerd_server.transport.rpc.policy import methods_of, read_checked_policy

POLICY = """# who may call
[allow]
drawer = [
  "/samplerd.v1.SamplerService/Sample",
  "/samplerd.v1.SamplerService/Sampel",
]
"*" = ['/samplerd.v1.Sampler/*', "/inference.GRPCInferenceService/*", "/grpc.health.v1.Health/Check"]
anonymous = ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/*"]
"""


def test_a_method_that_the_server_lacks_is_told_with_its_line(tmp_path, caplog):
    file = tmp_path / "policy"
    file.write_text(POLICY)
    policy = read_checked_policy(str(file), methods_of(RPCS))
    assert policy is not None
    assert policy["drawer"] == ("/samplerd.v1.SamplerService/Sample", "/samplerd.v1.SamplerService/Sampel")
    told = [(record.values["line"], record.values["method"]) for record in caplog.records]
    assert told == [(5, "/samplerd.v1.SamplerService/Sampel"), (7, "/samplerd.v1.Sampler/*")]
    assert {record.values["policy_file"] for record in caplog.records} == {str(file)}


def test_every_method_that_is_served_is_known(tmp_path, caplog):
    file = tmp_path / "policy"
    file.write_text(f"[allow]\nx = {sorted(methods_of(RPCS))}\n")
    assert read_checked_policy(str(file), methods_of(RPCS))
    assert not caplog.records
    assert read_checked_policy("", methods_of(RPCS)) is None


def test_a_file_of_nothing_else_does_not_fill_the_log(tmp_path, caplog):
    file = tmp_path / "policy"
    names = ", ".join('"/a.B/' + "m" * 500 + f'{number}"' for number in range(100))
    file.write_text(f"[allow]\nx = [{names}]\n")
    read_checked_policy(str(file), methods_of(RPCS))
    assert len(caplog.records) == 20
    assert max(len(record.values["method"]) for record in caplog.records) == 128
