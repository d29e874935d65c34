"""What all command lines share: repeated options, URLs, --version, and how commands end."""

from __future__ import annotations

import errno
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from vlmp.evaluation import cli as evaluation_cli
from vlmp.export import cli
from vlmp.runtimes import cli as run_cli
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import OneLineParser, exit_with_one_line, run_command
from vlmp.runtimes.profile import cli as profile_cli

BIN = Path(sys.executable).parent
COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "vlmp-eval": evaluation_cli.main,
    "vlmp-export": cli.main,
    "vlmp-profile": profile_cli.main,
    "vlmp-run": run_cli.run,
    "vlmp-verify": run_cli.verify,
}
REPEATABLE = {
    "vlmp-eval": {"--bundle", "--pruner", "--keep", "--schedule"},
    "vlmp-export": {"--target", "--stage"},
    "vlmp-profile": {"--compare", "--estimate", "--import"},
    "vlmp-run": {"--prompt"},
    "vlmp-verify": set[str](),
}
Refused = Callable[[str, list[str]], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must end with one line and exit code 2."""

    def run(program: str, argv: list[str]) -> str:
        with pytest.raises(SystemExit) as end:
            COMMANDS[program](argv)
        out, err = capsys.readouterr()
        assert (end.value.code, out) == (2, ""), err
        assert err.startswith(f"{program}: ")
        assert err.count("\n") == 1
        return err.removeprefix(f"{program}: ").removesuffix("\n")

    return run


def parser_of(program: str, monkeypatch: pytest.MonkeyPatch) -> ArgumentParser:
    parsers: list[ArgumentParser] = []

    def stop(parser: ArgumentParser, _argv: object) -> Namespace:
        parsers.append(parser)
        raise SystemExit(0)

    with monkeypatch.context() as patch:
        patch.setattr(OneLineParser, "parse_args", stop)
        with pytest.raises(SystemExit):
            COMMANDS[program]([])
    return parsers[0]


# --- Options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", COMMANDS)
def test_options_of_one_value_are_refused_a_second_time(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    single = []
    for action in parser_of(program, monkeypatch)._actions:
        if action.nargs == 0 or not action.option_strings or action.option_strings[-1] in REPEATABLE[program]:
            continue
        value = next(iter(action.choices)) if action.choices else "1"
        for option in action.option_strings:
            single.append(option)
            assert refused(program, [option, value, option, value]) == f"{option} is there twice"
            assert refused(program, [f"{option}={value}", option, value]) == f"{option} is there twice"
    assert len(single) >= {"vlmp-verify": 0, "vlmp-run": 3}.get(program, 10)


def test_what_may_be_repeated_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of("vlmp-export", monkeypatch)
    arguments = parser.parse_args(["--target", "a", "--debug", "--target", "b", "--debug", "--text-len", "64"])
    assert (arguments.target, arguments.debug, arguments.text_len) == (["a", "b"], True, 64)
    assert not [name for name in vars(arguments) if name.startswith("_")]
    assert parser.parse_args(["--text-len", "64"]).text_len == 64, "a second command line begins anew"


@pytest.mark.parametrize("program", COMMANDS)
def test_options_are_written_out(refused: Refused, program: str) -> None:
    """A new option must not change what an old command line means."""
    needed = {
        "vlmp-run": ["b", "--image", "a", "--prompt", "q"],
        "vlmp-verify": ["b"],
        "vlmp-eval": ["--dataset", "scenes:test", "--output", "o"],
    }
    assert refused(program, [*needed.get(program, []), "--debu"]) == "unrecognized arguments: --debu"


URL = "https://example.org//photo.jpg?a=1"


@pytest.mark.parametrize(
    ("program", "argv", "option"),
    [
        ("vlmp-run", ["b", "--prompt", "q", "--image", URL], "argument --image"),
        ("vlmp-run", [URL, "--prompt", "q", "--image", "a"], "argument bundle"),
        ("vlmp-verify", [URL], "argument bundle"),
        ("vlmp-export", ["--checkpoint", URL], "argument --checkpoint"),
        ("vlmp-export", ["--output", URL], "argument --output"),
        ("vlmp-profile", [URL], "argument bundle"),
        ("vlmp-profile", ["b", "--compare", URL], "argument --compare"),
        ("vlmp-profile", ["b", "--json", URL], "argument --json"),
        ("vlmp-profile", ["--device", "ios", "--import", URL], "argument --import"),
        ("vlmp-eval", ["--bundle", URL], "argument --bundle"),
        ("vlmp-eval", ["--model", "vlmp-tiny", "--output", "o", "--dataset", URL], "--dataset"),
        ("vlmp-eval", ["--model", "vlmp-tiny", "--output", "o", "--dataset", f"pope:{URL}"], "--dataset"),
    ],
)
def test_urls_are_repeated_as_they_were_typed(refused: Refused, program: str, argv: list[str], option: str) -> None:
    line = refused(program, argv)
    assert line.startswith(option)
    assert f"{URL} is a URL: download it first" in line


def test_empty_paths_are_not_the_working_folder(refused: Refused) -> None:
    assert refused("vlmp-run", ["b", "--prompt", "q", "--image", ""]) == "argument --image: the path is empty"
    assert refused("vlmp-verify", [""]) == "argument bundle: the path is empty"


@pytest.mark.parametrize("program", COMMANDS)
def test_version(capsys: pytest.CaptureFixture[str], program: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        COMMANDS[program](["--version"])
    assert capsys.readouterr() == (f"{program} {version('vlmp')}\n", "")


# --- Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("so it is"), 2, "program: so it is\n"),
        (FileNotFoundError(2, "No such file", "a.txt"), 2, "program: [Errno 2] No such file: 'a.txt'\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "program: the output cannot be written: No space left on device\n",
        ),
        (UserError("no 'a\nb\x1b[2Jé'"), 2, "program: no 'a\\nb\\x1b[2Jé'\n"),
        (KeyboardInterrupt(), 130, "program: interrupted, nothing unfinished is left behind\n"),
        (KeyboardInterrupt("a.txt stays"), 130, "program: interrupted, a.txt stays\n"),
        (
            BrokenPipeError(errno.EPIPE, "Broken pipe"),
            2,
            "program: [Errno 32] Broken pipe\n",
        ),  # another one than stdout
        (KeyError("bug"), 1, "program: KeyError: 'bug' (--debug shows where)\n"),
        (RuntimeError("one\n two"), 1, "program: RuntimeError: one two (--debug shows where)\n"),
    ],
)
def test_how_commands_end(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        exit_with_one_line("program", fail)
    assert end.value.code == code
    assert capsys.readouterr() == ("", says)


def test_with_debug_a_failure_shows_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_arguments: Namespace) -> None:
        raise UserError("so it is")

    parser = OneLineParser("program")
    parser.add_argument("--debug", action="store_true")
    with pytest.raises(SystemExit, match="2"):
        run_command(parser, fail, ["--debug"])
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert last == "program: so it is"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """bash in which PIPESTATUS counts."""
    return subprocess.run(
        ["bash", "-c", f"export PATH={BIN}:$PATH; {line}"],
        env={**environment, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


LISTING = "vlmp-export --list pruners"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [LISTING, "vlmp-export --help", "vlmp-run --version"])
def test_a_closed_pipe_ends_a_command_as_it_ends_others(argv: str, unbuffered: str) -> None:
    done = shell(f"( sleep 0.2; {argv} ) | true; exit ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [LISTING, "vlmp-export --help", "vlmp-run --version"])
def test_a_full_disk_is_told(argv: str, unbuffered: str) -> None:
    done = shell(f"{argv} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr == f"{argv.split()[0]}: the output cannot be written: No space left on device\n"


def test_closed_streams() -> None:
    assert shell(f"{LISTING} >&- 2>&- <&-").returncode == 0
    assert shell(f"{LISTING} 2>&-").stdout == shell(LISTING).stdout != ""
    wrong = shell("vlmp-run nowhere 2>&-")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", "")


def test_what_an_encoding_does_not_have_is_written_with_backslashes() -> None:
    done = shell("vlmp-run b --prompt q --image caf\u00e9.jpg", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (2, "vlmp-run: image caf\\xe9.jpg does not exist\n")
    script = (
        "from vlmp.runtimes.console.command import exit_with_one_line as e; e('p', lambda: print('caf\u00e9 \udcff'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{script.encode('unicode_escape').decode()}"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "caf\\xe9 \\udcff\n", "")
