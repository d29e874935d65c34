"""What a phone tells about itself. Tools and files differ from phone to phone: what one does not tell stays unknown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vlmp.runtimes.profile.adb.client import Adb
from vlmp.runtimes.profile.machine import FLAGS
from vlmp.runtimes.profile.schema import Condition, Machine, ThermalStatus

FACTS = {
    "properties": "getprop",
    "battery": "dumpsys -t 5 battery",
    "thermal": "dumpsys -t 5 thermalservice",
    "memory": "cat /proc/meminfo",
    "cpu": "cat /proc/cpuinfo",
    "cores": "cat /sys/devices/system/cpu/possible",
    "governor": "cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "saver": "settings get global low_power",
}
CONDITION = {
    "thermal": "dumpsys -t 5 thermalservice",
    "battery": "dumpsys -t 5 battery",
    # The shell reads files itself: some phones have a hundred sensors, and as many programs would warm it up.
    "zones": (
        "for z in /sys/class/thermal/thermal_zone*; do "
        'n= t=; read -r n <$z/type; read -r t <$z/temp; echo "$n $t"; done'  # a failed read leaves what was there
    ),
    "clocks": (
        "for c in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do "
        'a= h=; read -r a <$c/scaling_max_freq; read -r h <$c/cpuinfo_max_freq; echo "$a $h"; done'
    ),
}
"""Section -> the command that prints it."""
ASK_S = 20.0
STATUSES: tuple[ThermalStatus, ...] = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's PowerManager.THERMAL_STATUS_*, from 0."""
EMULATORS = ("ro.boot.qemu", "ro.kernel.qemu")
"""Properties that are 1 on an emulator: Android 12 and later, and before."""
FULL = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A phone. abis: instruction sets and call conventions it takes programs of, the best first."""

    machine: Machine
    abis: tuple[str, ...]


def read_facts(adb: Adb) -> Facts:
    """Ask everything at once. Raises Disconnected."""
    told = _sections(adb, FACTS)
    properties = read_properties(told["properties"])
    memory = read_fields(told["memory"])
    cpu = read_fields(told["cpu"])
    condition = read_condition(told)
    chip = " ".join(filter(None, (properties.get("ro.soc.manufacturer"), properties.get("ro.soc.model"))))
    battery = read_fields(told["battery"])
    facts = {
        "chip": chip or properties.get("ro.board.platform") or properties.get("ro.hardware"),
        "emulated": "yes" if any(properties.get(name) == "1" for name in EMULATORS) else None,
        "battery": f"{battery['level']} %" if "level" in battery else None,
        "battery charging": _charging(battery),
        "battery saver": {"0": "off", "1": "on"}.get(told["saver"].strip()),
        "thermal status": condition.thermal_status,
        "governor": told["governor"].strip() or None,
        "memory available": f"{kilobytes(memory, 'MemAvailable') / 1024:.0f} MiB" if "MemAvailable" in memory else None,
        "serial": adb.serial,
    } | {f"temperature of {name}": f"{value:.1f} °C" for name, value in condition.temperatures_c.items()}
    maker, model = properties.get("ro.product.manufacturer", ""), properties.get("ro.product.model", "")
    release, level = properties.get("ro.build.version.release"), properties.get("ro.build.version.sdk")
    return Facts(
        machine=Machine(
            kind="android",
            name=(model if model.lower().startswith(maker.lower()) else f"{maker} {model}").strip() or adb.serial,
            os=f"Android {release} (API {level})" if release else "Android",
            cpu=chip or cpu.get("Hardware") or properties.get("ro.board.platform") or "unknown",
            cores=count_cores(told["cores"], told["cpu"]),
            flags=sorted(set(cpu.get("Features", "").split()) & FLAGS),
            memory_mib=kilobytes(memory, "MemTotal") / 1024,
            runtimes={},
            facts={name: value for name, value in facts.items() if value is not None},
        ),
        abis=tuple(filter(None, properties.get("ro.product.cpu.abilist", "").split(","))),
    )


def ask_condition(adb: Adb) -> Condition:
    """How hot it is now, and whether its clocks are held down. Raises Disconnected."""
    return read_condition(_sections(adb, CONDITION))


def free_bytes(adb: Adb, folder: str) -> int | None:
    """Room on the phone's storage; None when `df` does not say. Raises Disconnected."""
    return read_free(adb.shell(f"df -k {folder} 2>/dev/null").output)


def _sections(adb: Adb, commands: Mapping[str, str]) -> dict[str, str]:
    """Output of each command, empty where there is none."""
    script = "; ".join(f"echo '@@{name}'; {{ {command}; }} 2>/dev/null; echo" for name, command in commands.items())
    told = adb.shell(script, ASK_S).output
    parts = (part.partition("\n") for part in re.split(r"^@@", told, flags=re.MULTILINE)[1:])
    return dict.fromkeys(commands, "") | {name: text for name, _, text in parts}


def read_properties(text: str) -> dict[str, str]:
    """`getprop`: lines of `[name]: [value]`; a value may go over several lines."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]$", text, re.MULTILINE | re.DOTALL))


def read_fields(text: str) -> dict[str, str]:
    """Lines of `name: value`, as in /proc and `dumpsys battery`; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def kilobytes(fields: Mapping[str, str], name: str) -> float:
    """A line of /proc/meminfo; 0 when it is missing."""
    found = re.match(r"\d+", fields.get(name, ""))
    return float(found[0]) if found else 0.0


def count_cores(possible: str, cpuinfo: str) -> int:
    """From `0-7` of /sys, else from /proc/cpuinfo, which hides cores that sleep; 0 is unknown."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", possible)
    if ranges:
        return sum(int(last or first) - int(first) + 1 for first, last in ranges)
    return len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))


def read_condition(told: Mapping[str, str]) -> Condition:
    """From the sections of CONDITION, as many as there are."""
    return Condition(
        thermal_status=read_status(told.get("thermal", "")),
        temperatures_c=read_temperatures(told.get("thermal", "")) or read_zones(told.get("zones", "")),
        battery_c=read_battery_c(told.get("battery", "")),
        clock_limit_share=read_clock_limit(told.get("clocks", "")),
    )


def read_status(thermal: str) -> ThermalStatus | None:
    """`Thermal Status: 2` of `dumpsys thermalservice`, Android 10 and later."""
    found = re.search(r"Thermal Status:\s*(\d+)", thermal)
    return STATUSES[int(found[1])] if found and int(found[1]) < len(STATUSES) else None


def read_temperatures(thermal: str) -> dict[str, float]:
    """Sensor -> °C, those read now rather than those remembered; without what a broken sensor says."""
    now = thermal.partition("Current temperatures from HAL")[2].partition("cooling devices")[0] or thermal
    found = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=-?\d+, mName=([^,}]+)", now)
    return {name.strip(): float(value) for value, name in found if -FULL < float(value) < 2 * FULL and float(value)}


def read_zones(zones: str) -> dict[str, float]:
    """/sys/class/thermal: lines of type and thousandths of a degree, where the phone lets a shell read them."""
    found = re.findall(r"^(\S+) (-?\d+)$", zones, re.MULTILINE)
    return {name: int(value) / 1e3 for name, value in found if 0 < int(value) < 2 * FULL * 1000}


def read_battery_c(battery: str) -> float | None:
    """`dumpsys battery` says tenths of a degree."""
    value = read_fields(battery).get("temperature", "")
    return int(value) / 10 if re.fullmatch(r"-?\d+", value) else None


def read_clock_limit(clocks: str) -> float | None:
    """The least share of its highest clock that a core is allowed; lines of allowed and highest clock."""
    found = re.findall(r"^(\d+) (\d+)$", clocks, re.MULTILINE)
    return min((int(allowed) / int(highest) for allowed, highest in found if int(highest)), default=None)


def read_free(df: str) -> int | None:
    """Bytes, from the column `Available` (or `Free`) of `df -k`."""
    lines = [line.split() for line in df.splitlines() if line.strip()]
    if len(lines) < 2:
        return None
    column = next((place for place, head in enumerate(lines[0]) if head in ("Available", "Avail", "Free")), None)
    cell = lines[-1][column] if column is not None and column < len(lines[-1]) else ""
    return int(cell) * 1024 if cell.isdigit() else None


def _charging(battery: Mapping[str, str]) -> str | None:
    sources = [
        name.removesuffix(" powered") for name, value in battery.items() if name.endswith("powered") and value == "true"
    ]
    return f"from {' and '.join(sources)}" if sources else "no" if battery else None
