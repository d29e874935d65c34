// Stands in for libFuzzer where there is only GCC: the seeds as they are, then random changes of them. Ends after that
// many runs or seconds, what comes first. Of a process that did not come to its end, PREFIXlast is the last input.
//
//   target -runs=N -max_total_time=SECONDS -seed=N -artifact_prefix=PREFIX FOLDER...
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937_64;
using Clock = std::chrono::steady_clock;

// Kept in advance: sanitizers, signals and a lack of memory end the process in many ways.
void keep(const std::string& input, int file) {
  const bool kept = pwrite(file, input.data(), input.size(), 0) == static_cast<ssize_t>(input.size()) &&
                    ftruncate(file, static_cast<off_t>(input.size())) == 0;
  if (!kept) std::cerr << "the last input cannot be kept" << std::endl;
}

void run(const std::string& input, int file) {
  if (file >= 0) keep(input, file);
  // In memory of its exact size, so that the sanitizer sees the first byte that is read behind it.
  const std::vector<std::uint8_t> copy(input.begin(), input.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

std::string changed(std::string input, const std::vector<std::string>& seeds, Random& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : static_cast<std::size_t>(random() % limit); };
  for (std::size_t change = 0; change <= below(6); ++change) {
    const std::size_t place = below(input.size());
    const std::string& other = seeds[below(seeds.size())];
    switch (below(5)) {
      case 0: input.insert(place, 1, static_cast<char>(random())); break;
      case 1: input.erase(place, 1 + below(32)); break;
      case 2: input.insert(place, other.substr(below(other.size()), below(64))); break;
      case 3: input.resize(place); break;
      default:
        if (!input.empty()) input[place] = static_cast<char>(random());
    }
  }
  return input;
}

}  // namespace

int main(int count, char** values) {
  constexpr std::uint64_t kEndless = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t runs = kEndless, seconds = kEndless, seed = 1;
  std::vector<std::string> seeds;
  std::string last;
  for (int index = 1; index < count; ++index) {
    const std::string argument = values[index];
    const std::string value = argument.substr(argument.find('=') + 1);
    if (argument.rfind("-runs=", 0) == 0) runs = std::stoull(value);
    if (argument.rfind("-max_total_time=", 0) == 0) seconds = std::stoull(value);
    if (argument.rfind("-seed=", 0) == 0) seed = std::stoull(value);
    if (argument.rfind("-artifact_prefix=", 0) == 0) last = value + "last";
    if (argument[0] == '-') continue;
    for (const auto& entry : std::filesystem::directory_iterator(argument)) {
      std::ifstream file(entry.path(), std::ios::binary);
      seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  if (seeds.empty()) {
    std::cerr << "no seeds" << std::endl;
    return 2;
  }
  if (runs == kEndless && seconds == kEndless) runs = 1000;
  const int file = last.empty() ? -1 : open(last.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const auto begin = Clock::now();
  const auto is_over = [&] { return seconds != kEndless && Clock::now() - begin >= std::chrono::seconds(seconds); };
  for (const std::string& input : seeds) run(input, file);
  Random random(seed);
  std::uint64_t done = 0;
  for (; done < runs && !is_over(); ++done) run(changed(seeds[random() % seeds.size()], seeds, random), file);
  std::filesystem::remove(last);
  std::cout << "Done " << done + seeds.size() << " runs" << std::endl;
  return 0;
}
