// Stands in for libFuzzer where there is only GCC: the seeds as they are, then random changes of them.
//
//   target -runs=N -seed=N FOLDER...
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937_64;

void run(const std::string& input) {
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
  std::uint64_t runs = 1000, seed = 1;
  std::vector<std::string> seeds;
  for (int index = 1; index < count; ++index) {
    const std::string argument = values[index];
    if (argument.rfind("-runs=", 0) == 0) {
      runs = std::stoull(argument.substr(6));
    } else if (argument.rfind("-seed=", 0) == 0) {
      seed = std::stoull(argument.substr(6));
    } else if (argument[0] != '-') {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        std::ifstream file(entry.path(), std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      }
    }
  }
  if (seeds.empty()) {
    std::cerr << "no seeds" << std::endl;
    return 2;
  }
  for (const std::string& input : seeds) run(input);
  Random random(seed);
  for (std::uint64_t number = 0; number < runs; ++number) {
    run(changed(seeds[random() % seeds.size()], seeds, random));
  }
  std::cout << "Done " << runs + seeds.size() << " runs" << std::endl;
  return 0;
}
