// The next token of an answer.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace vlmp {

// The largest of finite logits; the first one of equals.
std::int32_t most_likely(const std::vector<float>& logits);

// Greedy at temperature 0. The same seed gives the same answer wherever the logits are the same.
class Sampler {
 public:
  Sampler(double temperature, double top_p, std::uint64_t seed)
      : temperature_(temperature), top_p_(top_p), random_(seed) {}

  std::int32_t sample(const std::vector<float>& logits);

 private:
  double temperature_, top_p_;
  std::mt19937_64 random_;
};

}  // namespace vlmp
