"""`vlmp-profile --device adb` from end to end, with a stand-in for the runner: rounds, files, faults, what is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from adb_cases import PHASES, STAND_IN, calls, make_bundle_folder, make_runner, prepare_results
from adb_phone import PROPERTIES
from emulated_phone import Connected, adb
from PIL import Image
from vlmp.runtimes.profile import cli
from vlmp.runtimes.profile.adb import client, events, phone, rounds, runner
from vlmp.runtimes.profile.adb.client import Adb, find_adb
from vlmp.runtimes.profile.adb.facts import ask_condition
from vlmp.runtimes.profile.cli import main
from vlmp.runtimes.profile.report import render
from vlmp.runtimes.profile.schema import read_profile

STAYS = "stays in /data/local/tmp/vlmp-profile until the next call"
QUICK = ("--cool-down", "0", "--decode-tokens", "4", "--runs", "2")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds will do here; and the stand-in is a script, and writes no ETDump."""

    def loader(program: Path) -> str:
        return "" if program.name == STAND_IN else read_loader(program)

    read_loader = runner.read_loader
    monkeypatch.setattr(runner, "read_loader", loader)
    monkeypatch.setattr(cli, "LEAST_RUNS", 2)
    monkeypatch.setattr(events, "find_spec", lambda name: None)


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    """Two bundles, a runner, and where the figures go."""
    a, b = (make_bundle_folder(tmp_path / name, kept=kept) for name, kept in (("a", 16), ("b", 4)))
    standing_in = str(make_runner(tmp_path))
    json, html = str(tmp_path / "out.json"), str(tmp_path / "out.html")
    return [
        str(a),
        "--compare",
        str(b),
        "--device",
        "adb",
        "--runner",
        standing_in,
        *QUICK,
        "--json",
        json,
        "--html",
        html,
    ]


def failing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which it ends."""
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "Traceback" not in " ".join(lines)
    assert lines[-1].startswith("vlmp-profile: ")
    return lines[-1]


def test_bundles_take_turns_and_nothing_stays(
    connected: Connected, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_results(connected.phone)
    main([*argv, "--prompt", 'What\'s "this" $HOME?'])
    profile = read_profile(tmp_path / "out.json")
    assert calls(connected.phone) == ["bundle-0", "bundle-1"] * 3
    assert (connected.phone.said / "calls").read_text().splitlines()[-1] == 'bundle-1 What\'s "this" $HOME?'
    assert [bundle.name for bundle in profile.bundles] == ["a", "b"]
    for bundle in profile.bundles:
        assert {name for name in bundle.phases} == set(PHASES)
        assert all(len(phase.samples_ms) == 2 for phase in bundle.phases.values())
    assert profile.settings.runs == 2
    assert profile.bundles[0].phases["prefill"].median_ms == pytest.approx(128.2)
    assert profile.bundles[0].manifest.target == "executorch"
    assert "times as fast as" in profile.explanation[0]
    machine = profile.machine
    assert (machine.kind, machine.name, machine.os) == ("android", "Google Pixel 8", "Android 15 (API 35)")
    assert machine.runtimes == {"executorch": "1.5.1 (native)"}
    assert machine.facts["battery"] == "87 %"
    assert [(one.round, one.bundle) for one in profile.conditions] == [(n, b) for n in (1, 2) for b in (0, 1)]
    assert profile.conditions[0].before.thermal_status == "none"
    assert profile.conditions[0].after.temperatures_c == {"BIG": 41.5, "VIRTUAL-SKIN": 33.2}
    assert profile.warnings == []
    assert connected.phone.files() == []
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == render(profile)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Google Pixel 8" in shown
    assert "the phone around each run" in shown


def test_what_the_phone_has_is_not_pushed_again(connected: Connected, argv: list[str], tmp_path: Path) -> None:
    prepare_results(connected.phone)
    main([*argv, "--keep-files"])
    pushed = len(connected.faults.pushed)
    assert pushed == len({"runner", "photo", "tokenizer of both", "model a", "model b", "manifest a", "manifest b"})
    model = tmp_path / "b" / "model.pte"
    shutil.rmtree(model.parent)
    make_bundle_folder(model.parent, kept=5)
    main(argv)
    assert len(connected.faults.pushed) == pushed + 2, "the other model and its manifest"
    assert connected.phone.files() == []


def test_what_was_removed_from_the_phone_is_pushed_again(connected: Connected, argv: list[str]) -> None:
    prepare_results(connected.phone)
    main([*argv, "--keep-files"])
    alone = [argv[0], *argv[argv.index("--compare") + 2 :]]
    main([*alone, "--keep-files"])
    pushed = len(connected.faults.pushed)
    main([*argv, "--keep-files"])
    assert len(connected.faults.pushed) == pushed + 2, "the other model and its manifest"
    names = [Path(file).name for file in connected.phone.files()]
    assert names.count("model.pte") == names.count("manifest.json") == 2


def test_a_lost_connection_while_pushing_is_taken_up_again(
    connected: Connected, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_results(connected.phone)
    shutil.rmtree(tmp_path / "b")
    make_bundle_folder(tmp_path / "b", kept=4, size=3 << 20)
    connected.faults.drop_after_bytes = 1 << 20
    main(argv)
    assert "waiting for it" in capsys.readouterr().err
    assert len(connected.faults.pushed) == 7, "nothing arrived twice"
    profile = read_profile(tmp_path / "out.json")
    assert profile.warnings == ["the phone was disconnected once; what that interrupted was done anew"]
    assert profile.settings.runs == 2
    assert connected.phone.files() == []


def test_a_lost_connection_while_running_is_taken_up_again(
    connected: Connected, argv: list[str], tmp_path: Path
) -> None:
    prepare_results(connected.phone)
    connected.phone.say("fault", "[ $calls = 4 ] && : < $SAID/nobody-writes\n")
    os.mkfifo(connected.phone.said / "nobody-writes")
    connected.faults.drop_at_run = 4
    main(argv)
    profile = read_profile(tmp_path / "out.json")
    assert profile.settings.runs == 2
    assert len(calls(connected.phone)) == 7, "one run was made twice"
    assert connected.phone.files() == []
    assert connected.daemon.running() == []


def test_whole_rounds_are_kept_when_the_phone_does_not_come_back(
    connected: Connected, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(client, "COME_BACK_S", 1.0)
    prepare_results(connected.phone)
    connected.faults.drop_at_run = 6  # the second bundle in the second round
    connected.faults.gone_after_drop = True
    line = failing(argv, capsys)
    assert "was disconnected and did not come back within 1 s" in line
    assert STAYS in line
    assert f"what was measured before, 1 of 2 rounds, is in {tmp_path / 'out.json'}" in line
    profile = read_profile(tmp_path / "out.json")
    assert profile.settings.runs == 1
    assert [len(bundle.phases["prefill"].samples_ms) for bundle in profile.bundles] == [1, 1]
    assert "it stopped after 1 of 2 rounds" in profile.warnings


def test_a_phone_that_is_gone_before_any_round_leaves_earlier_results(
    connected: Connected, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(client, "COME_BACK_S", 1.0)
    connected.faults.drop_after_bytes = 0
    connected.faults.gone_after_drop = True
    (tmp_path / "out.json").write_text("earlier")
    assert "did not come back" in failing(argv, capsys)
    assert (tmp_path / "out.json").read_text() == "earlier"


def test_memory_that_runs_out_is_said_and_whole_rounds_are_kept(
    connected: Connected, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_results(connected.phone)
    connected.phone.say("fault", "[ $calls = 5 ] && kill -9 $$\n")
    line = failing(argv, capsys)
    assert f"a on {connected.serial}: the runner was killed (signal 9): memory ran out, most likely" in line
    assert read_profile(tmp_path / "out.json").settings.runs == 1
    assert connected.phone.files() == []


FAULTS = [
    ("echo 'vlmp_runner: photo.jpg is no picture' >&2; exit 1", ": photo.jpg is no picture"),
    ("kill -4 $$", "needs an instruction that this CPU lacks"),
    ("kill -11 $$", "was ended by signal 11"),
    ("exit 3", "exit code 3"),
    ("echo '{}' > $SAID/bundle-0.json", "the runner wrote no profile of a: has schema version None"),
    ("exit 0", "does not take or give"),
]


@pytest.mark.parametrize(("script", "says"), FAULTS, ids=[says for _, says in FAULTS])
def test_what_the_runner_says_is_the_line(
    script: str, says: str, connected: Connected, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_results(connected.phone)
    connected.phone.say("fault", script)
    assert says in failing(argv, capsys)
    assert not (tmp_path / "out.json").exists()
    assert not (tmp_path / "out.html").exists()
    assert connected.phone.files() == []


def test_a_hot_phone_rests_and_is_said(
    connected: Connected, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "HOT_WAITS", 2)
    prepare_results(connected.phone)
    connected.phone.heat(3)
    main([*argv, "--cool-down", "0.01"])
    profile = read_profile(tmp_path / "out.json")
    assert profile.conditions[0].before.thermal_status == "severe"
    assert profile.conditions[0].waited_s > 0.02
    line = "the phone was hot, up to thermal status severe, around 4 of 4 runs: it may have throttled"
    assert line in profile.warnings
    page = (tmp_path / "out.html").read_text()
    assert line in page
    assert "severe → severe" in page
    assert "41.5 → 41.5" in page


def test_an_unreadable_sensor_has_not_its_neighbours_temperature(connected: Connected) -> None:
    (connected.phone.said / "dumpsys-thermalservice").unlink()
    for number, (name, millidegrees) in enumerate([("cpu", "41200"), ("secret", None), ("battery", "30100")]):
        connected.phone.sensor(number, name, millidegrees)
    connected.phone.clock(0, allowed=1800, highest=1800)
    connected.phone.clock(1, allowed=2800, highest=2800)
    (connected.phone.root / "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq").unlink()
    condition = ask_condition(Adb(find_adb(), connected.serial))
    assert condition.temperatures_c == {"cpu": 41.2, "battery": 30.1}
    assert condition.clock_limit_share == 1, "a core that does not tell what it is allowed, is not allowed another's"


@pytest.mark.parametrize("allowed", [2800, 1400])
def test_clocks_that_are_held_down_from_the_start_are_said(
    allowed: int, connected: Connected, argv: list[str], tmp_path: Path
) -> None:
    prepare_results(connected.phone)
    connected.phone.clock(0, allowed=1800, highest=1800)
    connected.phone.clock(7, allowed=allowed, highest=2800)
    main(argv)
    profile = read_profile(tmp_path / "out.json")
    assert profile.conditions[0].before.clock_limit_share == allowed / 2800
    held = "the limit of the phone's clocks was at 50% of the highest from the start"
    assert profile.warnings == ([] if allowed == 2800 else [held])


def test_a_run_that_does_not_end_is_given_up(
    connected: Connected, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounds, "RUN_S", 2.0)
    connected.phone.say("fault", ": < $SAID/nobody-writes\n")
    os.mkfifo(connected.phone.said / "nobody-writes")
    assert f"a on {connected.serial}: a run did not end within 2 s" in failing(argv, capsys)
    assert connected.phone.files() == []
    assert connected.daemon.running() == []


def interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


def interrupted(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which it ends."""
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 130
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_signals_leave_nothing_on_the_phone(
    ends: signal.Signals, connected: Connected, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def unhandled(*_: object) -> None:
        pytest.fail(f"{ends.name} would have ended the process")

    monkeypatch.setattr(rounds, "sleep", lambda seconds: os.kill(os.getpid(), ends))
    prepare_results(connected.phone)
    default = signal.default_int_handler if ends == signal.SIGINT else unhandled
    before = signal.signal(ends, default)
    try:
        assert interrupted(argv, capsys) == "vlmp-profile: interrupted, nothing unfinished is left behind"
        assert signal.getsignal(ends) is default
    finally:
        signal.signal(ends, before)
    assert calls(connected.phone) == ["bundle-0", "bundle-1"], "it had begun"
    assert connected.phone.files() == []
    assert not (tmp_path / "out.json").exists()


def test_ctrl_c_while_the_phone_is_away_says_what_stays_there(
    connected: Connected, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "sleep", interrupt)  # of waiting for it
    prepare_results(connected.phone)
    connected.faults.drop_at_run = 3
    connected.faults.gone_after_drop = True
    line = interrupted(argv, capsys)
    assert line == f"vlmp-profile: interrupted, what was pushed to {connected.serial} {STAYS}"
    assert connected.phone.files() != []


def test_a_second_ctrl_c_says_what_may_stay(
    connected: Connected, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounds, "sleep", interrupt)
    monkeypatch.setattr(phone, "remove_all", interrupt)
    prepare_results(connected.phone)
    assert interrupted(argv, capsys).endswith(STAYS)


def test_ctrl_c_leaves_no_part_of_a_file_among_those_that_are_kept(
    connected: Connected, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(adb: Adb, source: Path, target: str, on_bytes: object) -> None:
        push(adb, source, target, lambda size: None)
        raise KeyboardInterrupt

    push = Adb.push
    monkeypatch.setattr(Adb, "push", begin)
    interrupted([*argv, "--keep-files"], capsys)
    assert len(connected.faults.pushed) == 1
    assert [name for name in connected.phone.files() if name.endswith(".part")] == []


def test_a_phone_that_goes_when_all_is_done_is_said_to_keep_its_files(
    connected: Connected, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def go(adb: Adb) -> None:
        connected.daemon.close()
        remove_all(adb)

    remove_all = phone.remove_all
    monkeypatch.setattr(phone, "remove_all", go)
    monkeypatch.setattr(client, "COME_BACK_S", 1.0)
    prepare_results(connected.phone)
    main(argv)
    said = capsys.readouterr().err
    assert f"did not come back within 1 s; what was pushed to {connected.serial} {STAYS}" in said
    assert read_profile(tmp_path / "out.json").settings.runs == 2


def test_a_phone_that_tells_nothing_is_measured_all_the_same(
    connected: Connected, argv: list[str], tmp_path: Path
) -> None:
    prepare_results(connected.phone)
    for tool in ("getprop", "dumpsys", "df", "sha256sum", "settings"):
        (connected.phone.root / "system/bin" / tool).unlink(missing_ok=True)
    main(argv)
    profile = read_profile(tmp_path / "out.json")
    assert profile.machine.name == connected.serial
    assert profile.machine.os == "Android"
    assert profile.conditions[0].before.thermal_status is None
    assert "the phone tells no thermal status" in profile.warnings[0]


# --- Before anything runs ---------------------------------------------------------------------------------------------


def test_no_phone(adb_server: None, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "no phone: connect one, with USB debugging on" in failing(argv, capsys)


def test_a_phone_that_does_not_trust_this_machine(
    connected: Connected, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    connected.faults.unauthorized = True
    adb("disconnect", connected.serial)
    adb("connect", connected.serial)
    assert "unlock it and allow USB debugging" in failing(argv, capsys)


def test_several_phones_need_a_serial(
    connected: Connected, second: Connected, argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failing(argv, capsys)
    assert "several phones" in line
    assert connected.serial in line
    assert second.serial in line
    assert "--device adb:" in line
    prepare_results(second.phone)
    main([*argv, "--device", f"adb:{second.serial}"])
    assert read_profile(tmp_path / "out.json").machine.facts["serial"] == second.serial
    assert connected.faults.pushed == []


def test_an_unknown_serial(connected: Connected, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = failing([*argv, "--device", "adb:R5CT"], capsys)
    assert "no phone 'R5CT': adb sees" in line
    assert connected.serial in line


@pytest.mark.parametrize("name", ["ro.boot.qemu", "ro.kernel.qemu"])
def test_an_emulator_is_no_phone(connected: Connected, argv: list[str], tmp_path: Path, name: str) -> None:
    prepare_results(connected.phone)
    connected.phone.say("getprop", f"{PROPERTIES}[{name}]: [1]\n")
    main(argv)
    profile = read_profile(tmp_path / "out.json")
    assert profile.machine.facts["emulated"] == "yes"
    assert profile.warnings == ["the phone is emulated: no time here is a phone's, and no speed-up either"]
    html = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "the phone is emulated" in html


def test_another_abi(connected: Connected, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    connected.phone.say("getprop", PROPERTIES.replace("arm64-v8a", "x86_64"))
    assert "is of another ABI (x86_64): the runner is for arm64-v8a" in failing(argv, capsys)
    assert connected.faults.pushed == []


def test_a_runner_for_another_processor(
    connected: Connected, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is for another processor (ELF machine" in failing([*argv, "--runner", shutil.which("adb") or ""], capsys)


def test_no_runner(
    connected: Connected, argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(runner, "BUILDS", tmp_path)
    argv = [word for place, word in enumerate(argv) if "--runner" not in (word, argv[place - 1])]
    assert "no runner for phones is built" in failing(argv, capsys)
    assert f"--runner {tmp_path}/none is no file" in failing([*argv, "--runner", f"{tmp_path}/none"], capsys)


def test_no_adb(argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "adb is not installed, which talks to phones: apt-get install adb" in failing(argv, capsys)


def test_only_executorch_runs_on_a_phone(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(manifest | {"target": "onnx"}))
    assert "is for onnx: a phone runs bundles of vlmp-export --target executorch" in failing(
        [argv[0], *argv[3:]], capsys
    )


@pytest.mark.parametrize(
    ("kind", "mode", "says"),
    [("WebP", "RGB", "is neither PNG nor JPEG"), ("GIF", "L", "is neither PNG nor JPEG"),
     ("JPEG", "CMYK", "is a CMYK JPEG")],
)  # fmt: skip
def test_a_photo_that_the_runner_does_not_read(
    kind: str, mode: str, says: str, connected: Connected, argv: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    photo = tmp_path / "photo.jpg"  # its name is not asked
    Image.new(mode, (8, 8)).save(photo, kind)
    assert f"--image {photo} {says}" in failing([*argv, "--image", str(photo)], capsys)
    assert connected.faults.commands == []
    assert connected.faults.pushed == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO"])
def test_a_photo_that_the_runner_reads(kind: str, connected: Connected, argv: list[str], tmp_path: Path) -> None:
    prepare_results(connected.phone)
    photo = tmp_path / "photo"
    Image.new("RGB", (8, 8)).save(photo, kind)
    main([*argv, "--image", str(photo)])
    assert read_profile(tmp_path / "out.json").settings.photo == "photo"


def test_a_full_phone(connected: Connected, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    connected.faults.full_after_bytes = 500
    assert "is full" in failing(argv, capsys)
    assert connected.phone.files() == []
    connected.phone.tool(
        "df", "echo Filesystem 1K-blocks Used Available Use% Mounted on; echo /dev/x 9 8 1024 1% /data"
    )
    line = failing(argv, capsys)
    assert "is full: 64 MiB are needed in /data/local/tmp, 1 MiB are free" in line
    assert connected.phone.files() == []


def test_what_will_be_removed_anyhow_counts_as_room(connected: Connected, argv: list[str], tmp_path: Path) -> None:
    prepare_results(connected.phone)
    models = [make_bundle_folder(tmp_path / f"model-{kept}", kept=kept, size=3 << 20) for kept in (1, 2, 3, 4)]
    # Room for two of them, and what is left free.
    used = f"$(du -sk {connected.phone.root}/data/local/tmp | cut -f1)"
    connected.phone.tool("df", f'echo "Filesystem Free"; echo "/dev/x $(({(64 + 2 * 3 + 1) << 10} - {used}))"')
    for first, second in ((0, 1), (2, 3), (3, 2)):
        main([str(models[first]), "--compare", str(models[second]), *argv[3:], "--keep-files"])
        sizes = [(connected.phone.root / "data/local/tmp" / name).stat().st_size for name in connected.phone.files()]
        assert sum(size >= 3 << 20 for size in sizes) == 2
        interrupted = connected.phone.root / "data/local/tmp/vlmp-profile/incoming.part"
        interrupted.write_bytes(bytes(1 << 20))


def test_bundles_in_another_order_are_copied_on_the_phone(connected: Connected, argv: list[str]) -> None:
    prepare_results(connected.phone)
    main([*argv, "--keep-files"])
    pushed = len(connected.faults.pushed)
    main([argv[2], "--compare", argv[0], *argv[3:]])
    assert len(connected.faults.pushed) == pushed + 2, "the first one, whose place was taken, with its manifest"
