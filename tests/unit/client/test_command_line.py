"""Command lines: errors of one line with the nearest name, and completion in a real shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
from argparse import SUPPRESS
from typing import TYPE_CHECKING

import pytest

from samplerd_client.command_line.completion import SHELLS, completion_script
from samplerd_client.command_line.parser import LineParser, leaves_of
from samplerd_client.samplerctl import main
from samplerd_client.samplerctl.arguments import build_parser
from samplerd_server.config.flags import build_parser as build_server_parser
from samplerd_server.config.flags import parse
from tests.support.tools import need

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("sample", "distribution", "info", "top", "bench", "replay", "verify", "completion")
PARSERS = {"samplerctl": build_parser, "samplerd": build_server_parser}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "samplerctl: give a command: one of sample, distribution, info, top, bench, replay, verify, completion"),
        ("smaple", "samplerctl: 'smaple' is no command: did you mean sample?"),
        (
            "xyz",
            f"samplerctl: 'xyz' is no command; there are {', '.join(COMMANDS)}",
        ),
        ("distribution", "samplerctl distribution: give a command: one of create, draw, list, show, delete"),
        ("--server x info", "samplerctl: --server goes after the command, as in samplerctl sample --server"),
        ("sample --logit 1,2", "samplerctl sample: unknown flag --logit: did you mean --logits?"),
        ("sample --logits 1 --top_k 3", "samplerctl sample: unknown flag --top_k: did you mean --top-k?"),
        (
            "sample --logits 1 -temperature=1",
            "samplerctl sample: unknown flag -temperature: did you mean --temperature?",
        ),
        ("sample --zzz", "samplerctl sample: unknown flag --zzz; samplerctl sample --help lists all"),
        ("info -x", "samplerctl info: unknown flag -x; samplerctl info --help lists all"),
        ("sample --concurrency 3", "samplerctl sample: --concurrency is a flag of bench, not of sample"),
        ("info --ttl 3", "samplerctl info: --ttl is a flag of distribution create, not of info"),
        ("sample", "samplerctl sample: give one of --logits, --probabilities, --npy, --distribution"),
        ("sample --logits 1 --npy x", "samplerctl sample: --npy and --logits exclude each other"),
        ("sample --logits 1 2", "samplerctl sample: unexpected: 2; samplerctl sample --help lists what it takes"),
        ("sample --logits", "samplerctl sample: --logits: a value is missing"),
        ("info --json=3", "samplerctl info: --json takes no value, and '3' was given"),
        ("sample --logits 1 --top-p x", "samplerctl sample: --top-p: 'x' is not a number"),
        ("sample --logits 1 --seed 1.5", "samplerctl sample: --seed: '1.5' is not a whole number"),
        ("sample --logits 1 --seed -1", "samplerctl sample: --seed: '-1' is not a whole number from 0 to 2^64 - 1"),
        (
            "sample --logits 1 --draw-offset 18446744073709551616",
            "samplerctl sample: --draw-offset: '18446744073709551616' is not a whole number from 0 to 2^64 - 1",
        ),
        (
            "sample --logits 1 --row-seeds 1,,2",
            "samplerctl sample: --row-seeds: '1,,2' is not a list of whole numbers, as in 3,17,25",
        ),
        ("info --server=", "samplerctl info: --server: the address is empty: expected host or host:port"),
        ("sample --logits 1 -n 0", "samplerctl sample: -n/--num-samples: '0' is not a whole number of at least 1"),
        (
            "sample --logits 1 --order vlm",
            "samplerctl sample: --order: 'vlm' is not one of hugging_face, vllm, llama_cpp, joint: did you mean vllm?",
        ),
        (
            "bench --duration 1d",
            "samplerctl bench: --duration: '1d' is not a number of seconds, as in 10, 0.5 or 500ms",
        ),
        ("info --server a:b", "samplerctl info: --server: 'b' is not a port, in 'a:b': expected host or host:port"),
        (
            "info --server https://a.example:443/",
            (
                "samplerctl info: --server: 'https://a.example:443/' is a URL, which gRPC does not take: "
                "give a.example:443 --tls"
            ),
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", said + "\n")


def test_values_that_begin_with_a_dash_are_values() -> None:
    args = build_parser().parse_args(["sample", "--logits=-1,2", "-n5", "--presence-penalty", "-.5", "-o", "-"])
    assert (args.logits, args.num_samples, args.presence_penalty, args.output_file) == ("-1,2", 5, -0.5, "-")


@pytest.mark.parametrize("program", PARSERS)
def test_every_value_has_a_name(program: str) -> None:
    for path, parser in leaves_of(PARSERS[program]()):
        for action in parser._actions:
            if action.nargs != 0 and action.help != SUPPRESS:
                named = action.choices or (action.metavar and action.metavar != "VALUE")
                assert named, f"{program} {' '.join(path)}: {action.option_strings}"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("program", PARSERS)
def test_a_script_knows_every_flag(program: str, shell: str) -> None:
    parser = PARSERS[program]()
    script = completion_script(parser, shell)
    assert script.isascii()
    for _, leaf in leaves_of(parser):
        for action in leaf._actions:
            for flag in action.option_strings:
                shown = flag if shell != "fish" else f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                is_shown = re.search(rf"{shown}(?![a-z-])", script) is not None
                assert is_shown is (action.help != SUPPRESS), flag


def bash(script: str, *words: str, folder: Path) -> set[str]:
    """What bash offers for the last of the words."""
    program = words[0]
    listed = " ".join(f"'{word}'" for word in words)
    code = f'COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _{program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    # compopt can be called within a completion only.
    text = f"set -u\ncompopt() {{ :; }}\n{script}\n{code}"
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", text], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return {*done.stdout.split()}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["samplerctl", "s"], {"sample"}),
        (["samplerctl", ""], {*COMMANDS, "--help", "--version", "-h"}),
        (["samplerctl", "distribution", "l"], {"list"}),
        (["samplerctl", "sample", "--logi"], {"--logits", "--logit-bias"}),
        (["samplerctl", "sample", "--logits", "1", "--output", ""], {"table", "jsonl", "npy", "npz"}),
        (["samplerctl", "sample", "--output", "=", "n"], {"npy", "npz"}),
        (["samplerctl", "sample", "--output", "="], {"table", "jsonl", "npy", "npz"}),
        (["samplerctl", "sample", "--npy", "ro"], {"rows.npy"}),
        (["samplerctl", "replay", ""], {"rows.npy"}),
        (["samplerctl", "replay", "rows.npy", "--upload", ""], {"rows.npy"}),
        (["samplerctl", "sample", "--seed", ""], set()),
        (["samplerctl", "distribution", "create", "--tt"], {"--ttl"}),
        (["samplerctl", "bench", "--tt"], set()),
        (["samplerctl", "completion", ""], {"bash", "zsh", "fish", "-h", "--help"}),
        (["samplerd", "--log-f"], {"--log-format"}),
        (["samplerd", "--log-format", ""], {"text", "json"}),
        (["samplerd", "--listen", "x", "--transport", "=", "e"], {"envoy"}),
        (["samplerd", "--config", ""], {"rows.npy"}),
    ],
)
def test_bash_completes(line: list[str], offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "rows.npy").touch()
    assert bash(completion_script(PARSERS[line[0]](), "bash"), *line, folder=tmp_path) == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["samplerctl", "s"], {"sample"}),
        (["samplerctl", ""], {*COMMANDS}),
        (["samplerctl", "distribution", "l"], {"list"}),
        (["samplerctl", "sample", "--logi"], {"--logits", "--logit-bias"}),
        (["samplerctl", "sample", "--logits", "1", "--output", ""], {"table", "jsonl", "npy", "npz"}),
        (["samplerctl", "sample", "--output=n"], {"--output=npy", "--output=npz"}),
        (["samplerctl", "sample", "--npy", "ro"], {"rows.npy"}),
        (["samplerctl", "replay", ""], {"rows.npy"}),
        (["samplerctl", "replay", "rows.npy", "--upload", ""], {"rows.npy"}),
        (["samplerctl", "sample", "--seed", ""], set()),
        (["samplerctl", "distribution", "create", "--tt"], {"--ttl"}),
        (["samplerctl", "bench", "--tt"], set()),
        (["samplerctl", "completion", ""], {"bash", "zsh", "fish"}),
        (["samplerd", "--log-f"], {"--log-format"}),
        (["samplerd", "--log-format", ""], {"text", "json"}),
        (["samplerd", "--listen", "x", "--transport", "e"], {"envoy"}),
        (["samplerd", "--config", ""], {"rows.npy"}),
    ],
)
def test_fish_completes(line: list[str], offered: set[str], tmp_path: Path) -> None:
    fish = need("fish")
    work = tmp_path / "work"
    work.mkdir()
    (work / "rows.npy").touch()
    script = completion_script(PARSERS[line[0]](), "fish")
    command = [fish, "--no-config", "-c", f"{script}\ncomplete -C {shlex.quote(' '.join(line))}"]
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=work, env=home, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {own.split("\t")[0] for own in done.stdout.splitlines()} == offered


def test_fish_describes_what_it_offers(tmp_path: Path) -> None:
    command = [
        need("fish"),
        "--no-config",
        "-c",
        f"{completion_script(build_parser(), 'fish')}\ncomplete -C 'samplerctl inf'",
    ]
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert done.stdout == "info\tshow the server's version, device, capabilities and limits\n"


TERMINALS = {
    "bash": (["--norc", "--noprofile", "-i"], "source ./script", b"READY> "),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -u -D; source ./script", b"\x1b[?2004h"),
}
"""Flags that leave a person's settings out, what loads a script, and what is shown when keys are waited for."""


def typed(shell: str, parser: LineParser, keys: bytes, until: bytes, folder: Path) -> bytes:
    """What an interactive shell shows when keys are pressed after the script was loaded, up to a text."""
    program = need(shell)
    flags, load, ready = TERMINALS[shell]
    (folder / "script").write_text(completion_script(parser, shell))
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        variables = {
            "PATH": os.environ["PATH"],
            "TERM": "dumb",
            "HOME": str(folder),
            "COLUMNS": "200",
            "PS1": "READY> ",
        }
        os.execve(program, [shell, *flags], variables)
    seen, at = b"", 0
    try:
        for line, answer in ((b"", ready), (f"{load}\n".encode(), ready), (keys, until)):
            os.write(terminal, line)
            deadline = time.monotonic() + 30
            while (found := seen.find(answer, at)) < 0 and time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    seen += os.read(terminal, 4096)
            at = found + len(answer)
        return seen
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(child, 0)


SHOW = """samplerctl() { printf '<%s>' "$@"; }\n"""
"""Shows its arguments, in bash and zsh."""


@pytest.mark.parametrize(
    ("shell", "keys", "shown"),
    [
        ("bash", "sam\t--prio\t3 --dty\tbf\t", "<sample><--priority><3><--dtype><bf16>"),
        ("bash", "distribution cre\t--tt\t5", "<distribution><create><--ttl><5>"),
        ("bash", "sample --npy ro\t", "<sample><--npy><rows.npy>"),
        ("bash", "repl\tro\t --js\t", "<replay><rows.npy><--json>"),
        ("zsh", "sam\t--prio\t3 --dty\tbf\t", "<sample><--priority=3><--dtype=bf16>"),
        ("zsh", "distribution cre\t--tt\t5", "<distribution><create><--ttl=5>"),
        ("zsh", "sample --npy ro\t", "<sample><--npy><rows.npy>"),
        ("zsh", "repl\tro\t --js\t", "<replay><rows.npy><--json>"),
    ],
)
def test_a_terminal_completes(shell: str, keys: str, shown: str, tmp_path: Path) -> None:
    """As a person has it: an interactive shell, and the key Tab."""
    (tmp_path / "rows.npy").touch()
    line = f"{SHOW}samplerctl {keys}\n"
    assert shown.encode() in typed(shell, build_parser(), line.encode(), shown.encode(), tmp_path)


def test_zsh_describes_what_it_offers(tmp_path: Path) -> None:
    told = b"show the server's version, device, capabilities and limits"
    assert told in typed("zsh", build_parser(), b"samplerctl \t\t", told, tmp_path)


def test_a_flag_of_no_command_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    parser = LineParser(prog="program")
    parser.add_argument("--given", type=float)
    assert parser.parse_args(["--given", "-1.5"]).given == -1.5
    with pytest.raises(SystemExit):
        parser.parse_args(["--give", "1"])
    assert capsys.readouterr().err == "program: unknown flag --give: did you mean --given?\n"


def test_the_programs_print_their_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    assert capsys.readouterr().out == completion_script(build_parser(), "fish")
    with pytest.raises(SystemExit) as caught:
        parse(["--completion", "zsh"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == completion_script(build_server_parser(), "zsh")
