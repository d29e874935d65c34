// Resampling with the arithmetic of Pillow's Resample.c: coefficients in double, then fixed point with 22 bits
// behind the point; one axis after the other, rounded to 8 bits between them. Their order is that of Pillow 13; earlier
// ones always began with the rows.
#include <algorithm>
#include <cmath>

#include "image.h"

namespace vlmp {
namespace {

constexpr int kBits = 32 - 8 - 2;
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double linear(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double sinc(double x) {
  constexpr double pi = 3.14159265358979323846;
  return x == 0.0 ? 1.0 : std::sin(x * pi) / (x * pi);
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
  double (*weight)(double);
  double support;  // beyond it all weights are 0
};

Filter filter_of(Resample resample) {
  switch (resample) {
    case Resample::bilinear: return {linear, 1.0};
    case Resample::lanczos: return {lanczos, 3.0};
    default: return {cubic, 2.0};
  }
}

// Which pixels of a line make one of the new line, and their weights.
struct Window {
  int first;
  std::vector<std::int32_t> weights;
};

std::vector<Window> windows(int from, int to, const Filter& filter) {
  const double scale = double(from) / to, wider = std::max(scale, 1.0);
  const double support = filter.support * wider, step = 1.0 / wider;
  std::vector<Window> all;
  all.reserve(std::size_t(to));
  std::vector<double> exact;
  for (int place = 0; place < to; ++place) {
    const double center = (place + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int end = std::min(from, static_cast<int>(center + support + 0.5));
    exact.clear();
    double sum = 0.0;
    for (int pixel = first; pixel < end; ++pixel) {
      exact.push_back(filter.weight((pixel - center + 0.5) * step));
      sum += exact.back();
    }
    Window window{first, {}};
    window.weights.reserve(exact.size());
    for (double weight : exact) {
      if (sum != 0.0) weight /= sum;
      window.weights.push_back(static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kBits)));
    }
    all.push_back(std::move(window));
  }
  return all;
}

std::uint8_t clipped(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Picture resize_rows(const Picture& picture, int width, const Filter& filter) {
  Picture result = Picture::blank(width, picture.height);
  const std::vector<Window> all = windows(picture.width, width, filter);
  for (int y = 0; y < picture.height; ++y) {
    std::uint8_t* to = result.row(y);
    for (const Window& window : all) {
      const std::uint8_t* from = picture.row(y) + 3 * window.first;
      std::int32_t sums[3] = {1 << (kBits - 1), 1 << (kBits - 1), 1 << (kBits - 1)};
      for (const std::int32_t weight : window.weights) {
        for (std::int32_t& sum : sums) sum += *from++ * weight;
      }
      for (const std::int32_t sum : sums) *to++ = clipped(sum);
    }
  }
  return result;
}

Picture resize_columns(const Picture& picture, int height, const Filter& filter) {
  Picture result = Picture::blank(picture.width, height);
  const std::vector<Window> all = windows(picture.height, height, filter);
  const std::size_t line = std::size_t(picture.width) * 3;
  std::vector<std::int32_t> sums(line);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 1 << (kBits - 1));
    int row = all[std::size_t(y)].first;
    for (const std::int32_t weight : all[std::size_t(y)].weights) {
      const std::uint8_t* from = picture.row(row++);
      for (std::size_t place = 0; place < line; ++place) sums[place] += from[place] * weight;
    }
    std::transform(sums.begin(), sums.end(), result.row(y), clipped);
  }
  return result;
}

}  // namespace

Picture resize(const Picture& picture, int width, int height, Resample resample) {
  const Filter filter = filter_of(resample);
  const auto rows = [&](const Picture& from) { return from.width == width ? from : resize_rows(from, width, filter); };
  const auto columns = [&](const Picture& from) {
    return from.height == height ? from : resize_columns(from, height, filter);
  };
  const int narrower = picture.width - width, lower = picture.height - height;
  return lower > 0 && lower > 2 * std::int64_t{narrower} ? rows(columns(picture)) : columns(rows(picture));
}

}  // namespace vlmp
