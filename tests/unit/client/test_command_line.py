"""Command lines: errors of one line with the nearest name, and completion in a real shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
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

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("sample", "distribution", "info", "bench", "verify", "completion")
PARSERS = {"samplerctl": build_parser, "samplerd": build_server_parser}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "samplerctl: give a command: one of sample, distribution, info, bench, verify, completion"),
        ("smaple", "samplerctl: 'smaple' is no command: did you mean sample?"),
        ("xyz", "samplerctl: 'xyz' is no command; there are sample, distribution, info, bench, verify, completion"),
        ("distribution", "samplerctl distribution: give a command: one of create, list, show, delete"),
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
        ("sample --logits 1 2", "samplerctl: unexpected: 2"),
        ("sample --logits", "samplerctl sample: --logits: a value is missing"),
        ("info --json=3", "samplerctl info: --json takes no value, and '3' was given"),
        ("sample --logits 1 --top-p x", "samplerctl sample: --top-p: 'x' is not a number"),
        ("sample --logits 1 --seed 1.5", "samplerctl sample: --seed: '1.5' is not a whole number"),
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


def test_bash_completes_on_a_terminal(tmp_path: Path) -> None:
    """As a person has it: an interactive shell, and the key Tab."""
    (tmp_path / "completion.bash").write_text(completion_script(build_parser(), "bash"))
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {"PATH": os.environ["PATH"], "TERM": "dumb"})
    try:
        os.write(terminal, b"source ./completion.bash; samplerctl() { printf '<%s>' \"$@\"; }\n")
        os.write(terminal, b"samplerctl sam\t--prio\t3 --dty\tbf\t; echo END\n")
        seen, deadline = b"", time.monotonic() + 60
        while b"END\r\n" not in re.sub(rb"echo END\r\n", b"", seen) and time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 4096)
        assert b"<sample><--priority><3><--dtype><bf16>" in seen, seen
    finally:
        os.write(terminal, b"exit\n")
        os.close(terminal)
        os.waitpid(child, 0)


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
