// The machine that a profile was measured on, and this process's memory, from /proc and /sys.
#pragma once

#include <optional>
#include <string>

#include "json.h"

namespace vlmp {

// The schema's Machine. kind: host or android. What the system does not tell is left out.
Json describe_machine(const std::string& kind);

// What this runner was built for: host or android.
std::string default_kind();

// In MiB; 0 when the system does not tell.
double resident_mib();
double peak_mib();
std::optional<double> proportional_mib();

// Starts the peak anew.
void forget_peak();

}  // namespace vlmp
