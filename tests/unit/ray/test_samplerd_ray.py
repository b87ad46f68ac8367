"""samplerd_ray without Ray: the directory, the files, the command lines, and a replica whose samplerd is a script."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from google.protobuf.json_format import MessageToJson

from samplerd.v1 import sampler_pb2 as pb
from samplerd_ray import replica as replica_module
from samplerd_ray.__main__ import main
from samplerd_ray.autoscaling import Load, wanted
from samplerd_ray.command_line import OWNED, build_parser
from samplerd_ray.directory import SILENT_S, Directory, starting_text
from samplerd_ray.endpoints import endpoints_text, replace_file, servers_text, targets_text
from samplerd_ray.replica import Replica, until_next_tell
from samplerd_ray.server_process import ServerProcess, StartError, command_of
from samplerd_ray.uploads import read_upload
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.table import PROCESS, ServerTable

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]


def place(replica: str, address: str = "10.0.0.1:1") -> dict[str, Any]:
    return {
        "replica": replica,
        "address": address,
        "metrics": "127.0.0.1:2",
        "node": "n",
        "actor_pid": 3,
        "samplerd_pid": 4,
    }


def test_a_replica_is_listed_while_it_tells_of_itself() -> None:
    now = [0.0]
    directory = Directory(clock=lambda: now[0])
    directory.tell(place("c"), {}, {}, is_ready=False)
    directory.tell(place("a", "10.0.0.2:1"), {}, {}, is_ready=True)
    now[0] = SILENT_S - 1
    directory.tell(place("b"), {}, {}, is_ready=True)
    assert [own["replica"] for own in directory.places()] == ["b", "a"]
    now[0] = SILENT_S
    assert [own["replica"] for own in directory.places()] == ["b"]
    directory.tell(place("a"), {}, {}, is_ready=True)
    directory.leave("b")
    directory.leave("b")
    assert directory.places() == [{**place("a"), "distributions": []}]


def test_the_file_of_endpoints_is_that_of_the_envoy_that_is_shipped() -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "envoy" / "endpoints.yaml").read_text(encoding="utf-8"))
    found = [
        own["endpoint"]["address"]["socket_address"] for own in shipped["resources"][0]["endpoints"][0]["lb_endpoints"]
    ]
    addresses = [f"{own['address']}:{own['port_value']}" for own in found]
    assert yaml.safe_load(endpoints_text(addresses, 1)) == shipped
    [v6] = yaml.safe_load(endpoints_text(["[fd00::1]:7"], 2))["resources"][0]["endpoints"][0]["lb_endpoints"]
    assert v6["endpoint"]["address"]["socket_address"] == {"address": "fd00::1", "port_value": 7}
    assert servers_text(["a:1", "b:2"]) == "a:1,b:2\n"
    assert json.loads(targets_text(["a:3"])) == [{"targets": ["a:3"], "labels": {"job": "samplerd"}}]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "servers"
    replace_file(path, "one\n")
    first = path.stat().st_ino
    replace_file(path, "two\n")
    assert path.read_text() == "two\n"
    assert path.stat().st_ino != first
    assert [own.name for own in tmp_path.iterdir()] == ["servers"]


def test_the_operators_flags_come_last() -> None:
    command = command_of("/bin/samplerd", ("10.0.0.1", "127.0.0.1"), 2, ["--threads=5", "--max-batch-rows", "9"])
    assert command[:3] == ["/bin/samplerd", "--listen", "10.0.0.1:0"]
    assert "2" not in command
    assert command[-3:] == ["--threads=5", "--max-batch-rows", "9"]
    assert "--drain-delay" in command
    assert command_of(None, ("fd00::1", "fd00::1"), 1, [])[:7] == [
        *(sys.executable, "-m", "samplerd_server"),
        *("--listen", "[fd00::1]:0", "--metrics-listen", "[fd00::1]:0"),
    ]


@pytest.mark.parametrize("flag", OWNED)
def test_flags_that_a_replica_sets_are_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["up", "--", f"{flag}=x"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"samplerd-ray: {flag} is set by samplerd-ray for every replica\n"


@pytest.mark.parametrize("words", [["up", "--replicas", "0"], ["up", "--cpus", "-1"], ["go"], []])
def test_wrong_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cluster_of_its_own_is_for_up_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["status", "--address", "local"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("samplerd-ray: --address: local is for samplerd-ray up alone")
    assert build_parser().parse_args(["up"]).address == "local"


def test_flags_of_samplerd_follow_two_dashes() -> None:
    args = build_parser().parse_args(["up", "--replicas", "3", "--", "--max-batch-rows", "9"])
    assert args.replicas == 3
    assert args.flags == ["--max-batch-rows", "9"]


_SAMPLERD = """\
#!{python}
import http.server, json, os, signal, sys, time
class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.lstrip("/")
        self.send_response(503 if os.path.exists(os.path.join({folder!r}, "not-" + name)) else 200)
        self.end_headers()
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("a warning", file=sys.stderr)
print(json.dumps(dict(message="compiling kernels", done="2 of 13")), file=sys.stderr, flush=True)
while os.path.exists(os.path.join({folder!r}, "waits")): time.sleep(0.01)
if "--fail" in sys.argv or os.path.exists(os.path.join({folder!r}, "fails")):
    sys.exit("no such device")
server = http.server.HTTPServer(("127.0.0.1", 0), Pages)
where = "127.0.0.1:%d" % server.server_port
print(json.dumps(dict(message="serving", listen="10.0.0.1:5", metrics=where)), file=sys.stderr, flush=True)
server.serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "samplerd"
    path.write_text(_SAMPLERD.format(python=sys.executable, folder=str(tmp_path)))
    path.chmod(0o755)
    return str(path)


class Told:
    """A directory in this process."""

    def __init__(self) -> None:
        self.directory = Directory()

    async def tell(self, *arguments: Any, is_ready: bool) -> Any:
        return self.directory.tell(*arguments, is_ready=is_ready)

    async def note_start(self, replica: str, doing: str) -> None:
        self.directory.note_start(replica, doing)

    async def leave(self, replica: str) -> None:
        self.directory.leave(replica)

    async def fetch(self, stored: list[Any]) -> bytes:
        return stored[0]

    @property
    def places(self) -> dict[str, dict[str, Any]]:
        return {own["replica"]: own for own in self.directory.places()}

    async def wait(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110  # the directory has no events
                await asyncio.sleep(0.01)


async def test_a_replica_tells_what_its_samplerd_does_until_it_serves(program: str, tmp_path: Path) -> None:
    (tmp_path / "waits").touch()
    told = Told()
    own = Replica("r", "n", "127.0.0.1", told)
    starting = asyncio.create_task(own.start(program, 1, []))
    await told.wait(lambda: told.directory.starting() == {"r": "compiling kernels, 2 of 13"})
    assert told.places == {}
    (tmp_path / "waits").unlink()
    await starting
    await told.wait(lambda: "r" in told.places)
    assert told.directory.starting() == {}
    await own.stop()


def test_what_starts_is_told_until_it_is_silent_or_serves() -> None:
    now = [0.0]
    directory = Directory(clock=lambda: now[0])
    for name in "abc":
        directory.note_start(name, "starting")
    directory.note_start("c", "compiling kernels, 2 of 13")
    assert (
        starting_text(directory.starting().values())
        == "1 not serving yet (compiling kernels, 2 of 13); 2 not serving yet (starting)"
    )
    directory.tell(place("a"), {}, {}, is_ready=False)
    now[0] = SILENT_S
    directory.note_start("b", "starting")
    assert directory.starting() == {"b": "starting"}
    assert starting_text([]) == ""


async def test_a_replica_tells_of_itself_while_it_is_ready(program: str, tmp_path: Path) -> None:
    told = Told()
    own = Replica("r", "n", "127.0.0.1", told)
    await own.start(program, 1, [])
    await told.wait(lambda: "r" in told.places)
    assert told.places["r"]["address"] == "10.0.0.1:5"
    assert told.places["r"]["samplerd_pid"] == own.server.pid
    assert told.places["r"]["actor_pid"] == os.getpid()
    (tmp_path / "not-readyz").touch()
    await told.wait(lambda: not told.places)
    (tmp_path / "not-readyz").unlink()
    await told.wait(lambda: "r" in told.places)
    await own.check_health()
    (tmp_path / "not-livez").touch()
    with pytest.raises(RuntimeError, match="/livez"):
        await own.check_health()
    await own.stop()
    assert own.server.status == 0
    assert told.places == {}


async def test_a_replica_whose_samplerd_does_not_stay_ends(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(replica_module.os, "_exit", ended.set_result)
    monkeypatch.setattr(replica_module, "_SOON_S", 3600.0)
    told = Told()
    own = Replica("r", "n", "127.0.0.1", told)
    await own.start(program, 1, [])
    await told.wait(lambda: "r" in told.places)
    first = own.server.pid
    os.kill(first, 9)
    await told.wait(lambda: told.places.get("r", {}).get("samplerd_pid", first) != first)
    assert not ended.done()
    os.kill(own.server.pid, 9)
    assert await asyncio.wait_for(ended, 60) != 0
    assert told.places == {}
    await own.stop()


async def test_a_samplerd_that_has_stayed_may_be_started_again_and_again(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "_SOON_S", 0.0)
    told = Told()
    own = Replica("r", "n", "127.0.0.1", told)
    await own.start(program, 1, [])
    seen = set()
    for _ in range(3):
        await told.wait(lambda: told.places.get("r", {}).get("samplerd_pid") not in {None, *seen})
        seen.add(own.server.pid)
        os.kill(own.server.pid, 9)
    await told.wait(lambda: told.places.get("r", {}).get("samplerd_pid") not in {None, *seen})
    await own.stop()


async def test_a_samplerd_that_has_ended_is_replaced_at_once_with_what_it_held(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "Uploads", FakeUploads)
    monkeypatch.setattr(FakeUploads, "may_create_at_once", True)
    told = Told()
    version = told.directory.keep("words", b"request")
    own = Replica("r", "n", "127.0.0.1", told)
    await own.start(program, 1, [])
    await told.wait(lambda: "r" in told.places)
    first = own.server.pid
    held = own.uploads
    os.kill(first, 9)
    await told.wait(lambda: told.places.get("r", {}).get("samplerd_pid", first) != first)
    await own.check_health()
    assert own.uploads is not held
    assert own.uploads.held == {"words": version}
    assert told.places["r"]["samplerd_pid"] == own.server.pid
    await own.stop()
    assert told.places == {}


async def test_a_replica_ends_whose_samplerd_does_not_start_again(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(replica_module.os, "_exit", ended.set_result)
    told = Told()
    own = Replica("r", "n", "127.0.0.1", told)
    await own.start(program, 1, [])
    (tmp_path / "fails").touch()
    os.kill(own.server.pid, 9)
    await own.check_health()
    assert await asyncio.wait_for(ended, 60) != 0
    await own.stop()


async def test_where_linux_is_old_the_end_of_the_log_tells(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("samplerd_ray.server_process.os.pidfd_open", refuse)
    server = ServerProcess([program])
    await server.start()
    assert not server.has_ended
    os.kill(server.pid, 9)
    await asyncio.wait_for(server.watch(), 60)
    await server.stop()
    assert server.has_ended


_HOLDER = """\
#!/bin/sh
# A child of it holds its log when it has ended.
trap '' TERM
sleep 600 &
echo $! > {folder}/child
echo '{{"message": "serving", "listen": "127.0.0.1:1", "metrics": "127.0.0.1:1"}}' >&2
exec sleep 600
"""


async def test_the_end_is_seen_while_a_child_holds_the_log(tmp_path: Path) -> None:
    path = tmp_path / "holder"
    path.write_text(_HOLDER.format(folder=tmp_path))
    path.chmod(0o755)
    server = ServerProcess([str(path)])
    await server.start()
    try:
        os.kill(server.pid, 9)
        await asyncio.wait_for(server.watch(), 60)
        await asyncio.wait_for(server.stop(), 60)
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


async def test_a_samplerd_that_does_not_start_says_why(program: str) -> None:
    with pytest.raises(StartError, match="status 1 before it served: no such device"):
        await ServerProcess([program, "--fail"]).start()


def test_without_ray_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("samplerd_ray.__main__.find_spec", lambda name: None)
    assert main(["status"]) == 2
    assert capsys.readouterr().err == "samplerd-ray: it needs pip install 'samplerd[ray]'\n"


def test_places_are_plain_json() -> None:
    directory = Directory()
    directory.tell(place("a"), {"d": 1}, {}, is_ready=True)
    assert json.loads(json.dumps(directory.places())) == [{**place("a"), "distributions": ["d"]}]


class FakeUploads:
    """What a samplerd holds."""

    may_create_at_once = False

    def __init__(self, _: str) -> None:
        self.held: dict[str, int] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.may_create = asyncio.Event()
        if self.may_create_at_once:
            self.may_create.set()

    async def create(self, name: str, version: int, request: bytes) -> None:
        await self.may_create.wait()
        self.held[name] = version

    async def delete(self, name: str) -> None:
        del self.held[name]

    async def aclose(self) -> None:
        pass


async def test_a_replica_is_listed_as_soon_as_it_holds_all(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "Uploads", FakeUploads)
    monkeypatch.setattr(FakeUploads, "may_create_at_once", True)
    monkeypatch.setattr(replica_module, "TELL_S", 3600.0)
    told = Told()
    told.directory.keep("words", b"request")
    own = Replica("r", "n", "127.0.0.1", told)
    await own.start(program, 1, [])
    await told.wait(lambda: "r" in told.places)
    assert told.places["r"]["distributions"] == ["words"]
    await own.stop()


@pytest.mark.parametrize(("has_come", "waits"), [(True, False), (False, True)])
async def test_what_did_not_come_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, *, has_come: bool, waits: bool
) -> None:
    monkeypatch.setattr(replica_module, "TELL_S", 3600.0)

    async def bring() -> bool:
        return has_come

    waiting = asyncio.create_task(until_next_tell(asyncio.create_task(bring())))
    done, _ = await asyncio.wait([waiting], timeout=0.1 if waits else 60)
    assert (not done) is waits
    waiting.cancel()


async def test_a_replica_fetches_before_it_is_listed_and_deletes(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "Uploads", FakeUploads)
    told = Told()
    version = told.directory.keep("words", b"request")
    own = Replica("r", "n", "127.0.0.1", told)
    rounds = []
    tell = told.tell

    async def counted(*arguments: Any, is_ready: bool) -> Any:
        rounds.append(is_ready)
        return await tell(*arguments, is_ready=is_ready)

    monkeypatch.setattr(told, "tell", counted)
    await own.start(program, 1, [])
    await told.wait(lambda: len(rounds) >= 3)
    assert not any(rounds)
    own.uploads.may_create.set()
    await told.wait(lambda: "r" in told.places)
    assert own.uploads.held == {"words": version}
    assert told.places["r"]["distributions"] == ["words"]
    told.directory.forget("words")
    await told.wait(lambda: not own.uploads.held)
    await own.stop()


# ------------------------------------------------------------------------------------------------ distributions


def tell(directory: Directory, name: str = "a", held: dict[str, int] | None = None, **refused: Any) -> Any:
    return directory.tell(place(name), held or {}, refused, is_ready=True)


def test_a_replica_is_told_what_it_lacks_until_it_holds_it() -> None:
    directory = Directory()
    version = directory.keep("words", b"request")
    assert tell(directory) == ({"words": (version, [b"request"])}, [])
    assert directory.holders("words", version) == {"replicas": 1, "holding": 0, "refusal": ""}
    assert tell(directory, held={"words": version}) == ({}, [])
    assert directory.holders("words", version) == {"replicas": 1, "holding": 1, "refusal": ""}
    assert directory.places()[0]["distributions"] == ["words"]
    # Another version is not this one.
    assert tell(directory, held={"words": version - 1}) == ({"words": (version, [b"request"])}, [])


def test_what_is_forgotten_is_deleted_where_it_is_held_and_then_no_longer_named() -> None:
    directory = Directory()
    version = directory.keep("words", b"1")
    tell(directory, held={"words": version, "own": 1})
    assert directory.forget("words")
    assert tell(directory, held={"words": version, "own": 1}) == ({}, ["words"])
    again = directory.keep("words", b"2")
    assert again != version
    assert tell(directory, held={"words": version}) == ({"words": (again, [b"2"])}, [])
    assert directory.forget("words")
    tell(directory)
    assert directory.places()[0]["distributions"] == []
    assert not directory.forget("words")


def test_a_directory_that_was_started_again_leaves_alone_what_it_does_not_know() -> None:
    assert tell(Directory(), held={"words": 5}) == ({}, [])


def test_a_refusal_is_passed_on_and_not_tried_again() -> None:
    directory = Directory()
    version = directory.keep("words", b"1")
    assert tell(directory, words=(version, "NaN")) == ({}, [])
    assert directory.holders("words", version)["refusal"] == "NaN"


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samplerd_ray.directory.MOST_KEPT_BYTES", 10)
    directory = Directory()
    directory.keep("a", b"123456")
    with pytest.raises(ValueError, match="'b' has no room"):
        directory.keep("b", b"12345")
    with pytest.raises(ValueError, match="'a' is kept already"):
        directory.keep("a", b"1")
    directory.keep("b", b"1234")
    assert directory.kept() == {"a": 6, "b": 4}


def upload(**fields: Any) -> pb.CreateDistributionRequest:
    row = pb.Values.Row(values=[1, 2])
    return pb.CreateDistributionRequest(**{"name": "words", "values": pb.Values(row=[row]), **fields})


@pytest.mark.parametrize("binary", [False, True])
def test_an_upload_is_read(binary: bool, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(upload().SerializeToString() if binary else MessageToJson(upload()).encode())
    assert read_upload(str(path)) == ("words", upload().SerializeToString())


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (upload(name=""), "name: give one"),
        (upload(ttl={"seconds": 5}), "ttl: what is kept"),
        (pb.CreateDistributionRequest(name="w", shared_memory=pb.SharedMemory(key="k")), "shared_memory: other nodes"),
    ],
)
def test_what_cannot_hold_for_all_replicas_is_named(message: Any, text: str, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(message.SerializeToString())
    with pytest.raises(ValueError, match=text):
        read_upload(str(tmp_path / "upload"))
    (tmp_path / "upload").write_text('{"nmae": "x"}')
    with pytest.raises(ValueError, match='no field named "nmae"'):
        read_upload(str(tmp_path / "upload"))


# ------------------------------------------------------------------------------------------------ scaling


@pytest.mark.parametrize(
    ("replicas", "loads", "number"),
    [
        (2, [1.0, 1.0], 2),
        (2, [1.2, 1.2], 3),
        (2, [3.0, 3.0], 4),
        (2, [0.2, 0.1], 1),
        (3, [0.6, 0.6, 0.6], 2),
        # 1.95 would fill two of three again.
        (3, [0.65, 0.65, 0.65], 3),
        (2, [], 2),
        (0, [], 1),
    ],
)
def test_how_many_are_wanted(replicas: int, loads: list[float], number: int) -> None:
    assert wanted(replicas, loads, 1, 4) == number


PAGE = """\
# HELP process_cpu_seconds_total x
process_cpu_seconds_total {cpu}
samplerd_transport_waiting_calls {waiting}
samplerd_queue_rows{{worker="1"}} 1.0
"""


def test_a_load_is_processor_time_or_calls_that_wait() -> None:
    load = Load(2.0)
    assert load.of(PAGE.format(cpu=10.0, waiting=0), 100.0) == 0.0
    assert load.of(PAGE.format(cpu=11.4, waiting=0), 101.0) == pytest.approx(1.0)
    assert load.of("", 101.5) == 0.0
    assert load.of(PAGE.format(cpu=11.4, waiting=15), 102.0) == 0.0
    assert load.of(PAGE.format(cpu=11.4, waiting=16), 103.0) == 1.5


def test_the_metrics_that_a_load_is_made_of_exist() -> None:
    names = {row.exported_name for row in (*definitions_of(ServerTable), *PROCESS)}
    assert {"process_cpu_seconds_total", "samplerd_transport_waiting_calls", "samplerd_queue_rows"} <= names


@pytest.mark.parametrize("text", ["3", "0:2", "3:2", "a:b", "1:"])
def test_a_range_of_replicas(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--autoscale", text])
    assert "is not MIN:MAX" in capsys.readouterr().err
