#include "machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#ifdef __ANDROID__
#include <sys/system_properties.h>
#endif

#include "program.h"
#include "unicode.h"

namespace vlmp {
namespace {

// Features that matrix kernels choose by, as runtimes/profile/machine.py has them.
const std::set<std::string> kFlags = {
    "avx2",    "fma",     "f16c",    "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "asimd", "asimdhp", "asimddp",  "i8mm",    "bf16",        "sve",         "sve2",        "sme"};

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return to_valid_utf8(line);
}

// "Name:   value" of a file; the first of each name.
std::map<std::string, std::string> fields_of(const char* path) {
  const auto trimmed = [](const std::string& text) {
    const std::size_t begin = text.find_first_not_of(" \t");
    return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
  };
  std::map<std::string, std::string> fields;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos) fields.emplace(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  }
  return fields;
}

// "123 kB" of a field in MiB; nothing when it is not there.
std::optional<double> mib(const char* path, const char* name) {
  const auto fields = fields_of(path);
  const auto found = fields.find(name);
  if (found == fields.end()) return std::nullopt;
  double kib = 0;
  return std::istringstream(found->second) >> kib ? std::optional<double>(kib / 1024) : std::nullopt;
}

std::string property([[maybe_unused]] const char* name) {
#ifdef __ANDROID__
  std::array<char, PROP_VALUE_MAX> value{};
  __system_property_get(name, value.data());
  return to_valid_utf8(value.data());
#else
  return "";
#endif
}

int cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

// Facts that explain a figure later: chip, governor, battery and heat, as far as the system tells.
Json facts() {
  std::map<std::string, std::string> found;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) found[name] = value;
  };
  add("chip", property("ro.soc.model"));
  add("build", property("ro.build.fingerprint"));
  const std::string load = first_line("/proc/loadavg");
  add("load average", load.substr(0, load.find(' ')));
  add("governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
  add("battery percent", first_line("/sys/class/power_supply/battery/capacity"));
  add("battery status", first_line("/sys/class/power_supply/battery/status"));
  add("battery tenths of a degree", first_line("/sys/class/power_supply/battery/temp"));
  return found;
}

}  // namespace

std::string default_kind() {
#ifdef __ANDROID__
  return "android";
#else
  return "host";
#endif
}

Json describe_machine(const std::string& kind) {
  const auto cpu_fields = fields_of("/proc/cpuinfo");
  const auto field = [&](const char* name) {
    const auto found = cpu_fields.find(name);
    return found == cpu_fields.end() ? std::string() : to_valid_utf8(found->second);
  };
  utsname system{};
  uname(&system);
  std::string cpu = field("model name");
  if (cpu.empty()) cpu = field("Hardware");
  if (cpu.empty()) cpu = system.machine;
  const std::string model = property("ro.product.model"), release = property("ro.build.version.release");
  std::set<std::string> flags;
  std::istringstream words(field("flags").empty() ? field("Features") : field("flags"));
  for (std::string word; words >> word;) {
    if (kFlags.count(word) != 0) flags.insert(word);
  }
  const std::string runtime = runtime_name();
  const std::size_t space = runtime.find(' ');
  return {
      {"kind", kind},
      {"name", model.empty() ? cpu : model},
      {"os", release.empty() ? std::string(system.sysname) + " " + system.release + " " + system.machine
                             : "Android " + release + " " + system.machine},
      {"cpu", cpu},
      {"cores", cores()},
      {"flags", flags},
      {"memory_mib", mib("/proc/meminfo", "MemTotal").value_or(0)},
      {"runtimes", {{runtime.substr(0, space), runtime.substr(space + 1)}}},
      {"facts", facts()},
  };
}

double resident_mib() { return mib("/proc/self/status", "VmRSS").value_or(0); }
double peak_mib() { return mib("/proc/self/status", "VmHWM").value_or(0); }
std::optional<double> proportional_mib() { return mib("/proc/self/smaps_rollup", "Pss"); }

void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace vlmp
