// The command line of vlmp_runner.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vlmp {

struct Options {
  std::filesystem::path bundle, image;
  std::string prompt;
  std::vector<std::string> replies;
  std::optional<int> max_new_tokens, threads;
  double temperature = 0.0, top_p = 1.0;
  std::uint64_t seed = 0;
  bool ignore_end = false, control_tokens = false;
  std::optional<std::filesystem::path> etdump, logits;
  // Profiling:
  std::optional<int> runs;
  int warmup = 1, decode_tokens = 16;
  std::optional<std::filesystem::path> json;
  std::optional<std::string> machine_kind;

  bool help = false, version = false;
};

extern const char* const kUsage;

// Throws Error on an unknown option, a bad value, or options that do not go together.
Options parse_options(const std::vector<std::string>& arguments);

}  // namespace vlmp
