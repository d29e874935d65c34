#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vlmp {

std::int32_t most_likely(const std::vector<float>& logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::int32_t Sampler::sample(const std::vector<float>& logits) {
  if (temperature_ == 0.0) return most_likely(logits);
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  const double top = logits[static_cast<std::size_t>(order.front())];
  std::vector<double> weights;
  weights.reserve(order.size());
  for (const std::int32_t id : order) {
    weights.push_back(std::exp((logits[static_cast<std::size_t>(id)] - top) / temperature_));
  }
  const double share = top_p_ * std::accumulate(weights.begin(), weights.end(), 0.0);
  double nucleus = 0.0;
  std::size_t count = 0;
  while (count < weights.size() && (count == 0 || nucleus < share)) nucleus += weights[count++];
  // Not std::uniform_real_distribution, whose results differ from library to library.
  double rest = nucleus * static_cast<double>(random_() >> 11) * 0x1p-53;
  for (std::size_t place = 0; place < count; ++place) {
    rest -= weights[place];
    if (rest < 0.0) return order[place];
  }
  return order[count - 1];
}

}  // namespace vlmp
