"""A made-up phone behind `adb_daemon.Daemon`: Android's shell and tools, and aarch64 programs under qemu.

Debian's mksh and toybox are what Android has too, and nothing else is on the phone's PATH but stand-ins for `getprop`
and `dumpsys`, which print the files in `said`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

QEMU = ("qemu-aarch64-static", "-cpu", "cortex-a76")  # with the default cpu int8 results are wrong
PACKAGES = {"adb": "adb", "proot": "proot", "qemu-aarch64-static": "qemu-user-static", "mksh": "mksh",
            "toybox": "toybox"}  # fmt: skip
"""What the double needs: program -> the Debian package that has it."""
HOST_FOLDERS = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev")
APPLETS = (
    "cat", "chmod", "cp", "cut", "env", "df", "du", "echo", "grep", "head", "kill", "ln", "ls", "mkdir", "mv", "rm",
    "setsid", "sha256sum", "sleep", "stat", "sync", "touch", "true", "uname", "wc",
)  # fmt: skip

PROPERTIES = """\
[ro.board.platform]: [zuma]
[ro.build.version.release]: [15]
[ro.build.version.sdk]: [35]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
"""
EMULATED_PROPERTIES = """\
[ro.boot.qemu]: [1]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.model]: [emulated phone (QEMU)]
[ro.soc.model]: [emulated Cortex-A76]
"""
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4312
  temperature: 291
  technology: Li-ion
"""
THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
Thermal Status: {status}
Cached temperatures:
	Temperature{{mValue=61.0, mType=0, mName=BIG, mStatus=0}}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
	Temperature{{mValue=41.5, mType=0, mName=BIG, mStatus=0}}
	Temperature{{mValue=33.2, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}
Current cooling devices from HAL:
	CoolingDevice{{mValue=0, mType=3, mName=thermal-cpufreq-2}}
"""
MEMORY = "MemTotal:        7798128 kB\nMemFree:          412312 kB\nMemAvailable:    3412312 kB\n"
CORE = "processor\t: {number}\nBogoMIPS\t: 49.15\nFeatures\t: fp asimd fphp asimdhp asimddp\nCPU part\t: 0xd0b\n\n"
"""Of a Cortex-A76, which is what runs."""
CORES = 9


def missing_packages(packages: Mapping[str, str]) -> list[str]:
    """Debian packages whose program this machine lacks. packages: program -> package."""
    return [package for program, package in packages.items() if shutil.which(program) is None]


class Phone:
    """Its file system in `folder`. `said` holds what the tools print.

    emulated: under proot and qemu, with Android's own paths; otherwise paths are changed in the text of commands, which
    is much quicker and enough for scripts, and its sensors and clocks are those that a test gives it. An emulated phone
    says that it is, has this machine's memory and cores, and tells nothing of battery and heat: there is nothing true
    to tell.
    """

    def __init__(self, folder: Path, *, emulated: bool) -> None:
        self.root, self.said, self.emulated = folder / "root", folder / "said", emulated
        self.said.mkdir(parents=True)
        tools = self.root / "system" / "bin"
        for path in (
            tools,
            self.root / "data/local/tmp",
            self.root / "said",
            *(self.root / f[1:] for f in HOST_FOLDERS),
        ):
            path.mkdir(parents=True, exist_ok=True)
        shutil.copy(which("toybox"), tools / "toybox")
        shutil.copy(which("mksh"), tools / "sh")
        for applet in APPLETS:
            (tools / applet).symlink_to("toybox")
        said = "/said" if emulated else self.said
        self.tool("getprop", f"cat {said}/getprop")
        self.tool("dumpsys", f'cat "{said}/dumpsys-$3"  # -t seconds service')
        self.say("cpuinfo", "".join(CORE.format(number=number) for number in range(CORES)))
        if emulated:
            self.say("getprop", EMULATED_PROPERTIES)
            return
        self.say("getprop", PROPERTIES)
        self.say("dumpsys-battery", BATTERY)
        self.say("meminfo", MEMORY)
        self.heat(0)

    def say(self, name: str, text: str) -> None:
        """What a tool prints from now on."""
        (self.said / name).write_text(text)

    def heat(self, status: int) -> None:
        """Android's thermal status: 0 is none, 6 a shutdown."""
        self.say("dumpsys-thermalservice", THERMAL.format(status=status))

    def sensor(self, number: int, name: str, millidegrees: str | None) -> None:
        """A thermal zone; None is one that no shell may read."""
        zone = self.root / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{name}\n")
        if millidegrees is not None:
            (zone / "temp").write_text(f"{millidegrees}\n")

    def clock(self, core: int, *, allowed: int, highest: int) -> None:
        """kHz of a core."""
        folder = self.root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scaling_max_freq").write_text(f"{allowed}\n")
        (folder / "cpuinfo_max_freq").write_text(f"{highest}\n")

    def files(self) -> list[str]:
        """Everything in /data/local/tmp."""
        folder = self.root / "data/local/tmp"
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

    def command(self, text: str) -> list[str]:
        """What runs `text` on it."""
        if self.emulated:
            binds = [*HOST_FOLDERS, f"{self.said}:/said", f"{self.said}/cpuinfo:/proc/cpuinfo"]
            return [
                which("proot"), "-r", str(self.root), *(part for bind in binds for part in ("-b", bind)), "-w", "/",
                "-q", " ".join((which(QEMU[0]), *QEMU[1:])), "/system/bin/sh", "-c", f"export PATH=/system/bin; {text}",
            ]  # fmt: skip
        text = text.replace("/sys/", f"{self.root}/sys/")
        for place in ("/proc/meminfo", "/proc/cpuinfo"):
            text = text.replace(place, f"{self.said}/{Path(place).name}")
        text = text.replace("/data/local/tmp", f"{self.root}/data/local/tmp")
        tools = self.root / "system/bin"
        return [str(tools / "sh"), "-c", f"export PATH={tools} SAID={self.said}; {text}"]

    def tool(self, name: str, script: str) -> None:
        """Put a program of ours on its PATH."""
        path = self.root / "system/bin" / name
        path.unlink(missing_ok=True)
        shell = "/system/bin/sh" if self.emulated else path.parent / "sh"
        path.write_text(f"#!{shell}\n{script}\n")
        path.chmod(0o755)


def which(program: str) -> str:
    """Its path."""
    found = shutil.which(program)
    assert found is not None, program
    return found
