#include "image.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <optional>

#include "container.h"
#include "error.h"
#include "files.h"
#include "stb.h"

namespace vlmp {
namespace {

constexpr std::uintmax_t kMostBytes = 1 << 29;
constexpr std::uint64_t kMostAspect = 200;  // the longer side to the shorter one

template <typename Value>
using Samples = std::unique_ptr<Value, decltype(&stbi_image_free)>;

// One channel over white, as Pillow composites: 7 more bits, and a division by 255 by shifts.
std::uint8_t over_white(unsigned value, unsigned alpha) {
  if (alpha == 0) return 255;
  const unsigned share = alpha * 255 * 255 * (1 << 7) / (255 * 255);  // of 255 << 7
  const unsigned sum = value * share + 255 * (255 * (1 << 7) - share) + (0x80 << 7);
  return static_cast<std::uint8_t>((((sum >> 8) + sum) >> 8) >> 7);
}

Picture from_samples(const std::uint8_t* samples, int width, int height, int channels,
                     const std::optional<Colour>& clear) {
  Picture picture = Picture::blank(width, height);
  const bool grey = channels < 3, alpha = channels % 2 == 0;
  for (std::size_t pixel = 0; pixel < picture.rgb.size() / 3; ++pixel) {
    const std::uint8_t* from = samples + pixel * std::size_t(channels);
    if (clear && std::equal(from, from + channels, clear->begin())) {
      std::fill_n(&picture.rgb[pixel * 3], 3, std::uint8_t{255});
      continue;
    }
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const std::uint8_t value = from[grey ? 0 : channel];
      picture.rgb[pixel * 3 + channel] = alpha ? over_white(value, from[channels - 1]) : value;
    }
  }
  return picture;
}

// Of 16 bits: grey is scaled, and of RGB the high bytes are taken, as Pillow has it.
Picture from_wide_samples(const std::uint16_t* samples, int width, int height, int channels,
                          const std::optional<Colour>& clear) {
  Picture picture = Picture::blank(width, height);
  for (std::size_t pixel = 0; pixel < picture.rgb.size() / 3; ++pixel) {
    const std::uint16_t* from = samples + pixel * std::size_t(channels);
    const bool is_clear = clear && std::equal(from, from + channels, clear->begin());
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const double value = channels == 1 ? std::nearbyint(from[0] * (255 / 65535.0)) : from[channel] >> 8;
      picture.rgb[pixel * 3 + channel] = is_clear ? 255 : static_cast<std::uint8_t>(value);
    }
  }
  return picture;
}

// Turns a picture that EXIF says is mirrored or rotated.
Picture upright(Picture picture, int orientation) {
  if (orientation == 1) return picture;
  const bool across = orientation >= 5;  // rows become columns
  const int width = across ? picture.height : picture.width, height = across ? picture.width : picture.height;
  Picture turned = Picture::blank(width, height);
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int column = across ? y : x, row = across ? x : y;
      const int from_x = from_right ? picture.width - 1 - column : column;
      const int from_y = from_below ? picture.height - 1 - row : row;
      std::copy_n(picture.row(from_y) + 3 * from_x, 3, turned.row(y) + 3 * x);
    }
  }
  return turned;
}

}  // namespace

void check_size(std::uint64_t width, std::uint64_t height, const std::string& where, std::int64_t most_pixels) {
  if (width * height > static_cast<std::uint64_t>(most_pixels)) {
    fail("image ", where, " has ", width, " x ", height, " pixels: at most ", most_pixels / 1'000'000,
         " megapixels are read");
  }
  const auto [shorter, longer] = std::minmax(width, height);
  if (longer > kMostAspect * shorter) {
    fail("image ", where, " has ", width, " x ", height, " pixels: one side may be at most ", kMostAspect,
         " times as long as the other");
  }
}

Place placement(const Picture& picture, const ImageSpec& spec) {
  const bool same_shape = std::int64_t{picture.width} * spec.height == std::int64_t{picture.height} * spec.width;
  if (!spec.pad || same_shape) return {0, 0, spec.width, spec.height};
  const double scale = std::min(double(spec.width) / picture.width, double(spec.height) / picture.height);
  const auto side = [&](int size, int most) {  // rounds half to even, as Python does
    return std::max(1, std::min(most, static_cast<int>(std::nearbyint(size * scale))));
  };
  const int width = side(picture.width, spec.width), height = side(picture.height, spec.height);
  return {(spec.width - width) / 2, (spec.height - height) / 2, width, height};
}

Picture decode_picture(std::string_view bytes, const std::string& where, std::int64_t most_pixels) {
  const Container container = read_container(bytes, where);
  if (bytes.size() > kMostBytes) fail("image ", where, " is too large");
  check_size(container.width, container.height, where, most_pixels);
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  const int size = static_cast<int>(bytes.size());
  // Twice: buffers grow by doubling, and rows of an interlaced file are more.
  growth = {2 * std::max<std::size_t>(container.inflated_bytes, bytes.size()) + 4096, false};
  const auto check = [&](bool good) {
    if (good) return;
    if (growth.exceeded) fail("image ", where, " cannot be read: it holds more than a picture of its size");
    if (stbi_failure_reason() == std::string_view("outofmem")) throw std::bad_alloc();
    fail("image ", where, " cannot be read: ", stbi_failure_reason());
  };
  int width = 0, height = 0, channels = 0;
  const int own = container.colour == kGrey ? 1 : 3;
  if (container.depth == 16 && (container.colour == kGrey || container.clear)) {
    const Samples<stbi_us> samples(stbi_load_16_from_memory(data, size, &width, &height, &channels, own),
                                   stbi_image_free);
    check(samples != nullptr);
    return upright(from_wide_samples(samples.get(), width, height, own, container.clear), container.orientation);
  }
  const int wanted = container.clear ? own : 0;  // stb_image's comparison is not needed
  const Samples<stbi_uc> samples(stbi_load_from_memory(data, size, &width, &height, &channels, wanted),
                                 stbi_image_free);
  check(samples != nullptr);
  return upright(from_samples(samples.get(), width, height, wanted != 0 ? wanted : channels, container.clear),
                 container.orientation);
}

Picture open_picture(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    fail("image ", path.string(), std::filesystem::exists(path, error) ? " is not a file" : " does not exist");
  }
  return decode_picture(read_file(path, kMostBytes), path.string());
}

Picture fit(const Picture& picture, const ImageSpec& spec) {
  const Place place = placement(picture, spec);
  const Picture inner = resize(picture, place.width, place.height, spec.resample);
  if (place.width == spec.width && place.height == spec.height) return inner;
  Picture canvas{spec.width, spec.height, {}};
  canvas.rgb.reserve(std::size_t(spec.width) * std::size_t(spec.height) * 3);
  for (std::size_t pixel = 0; pixel < std::size_t(spec.width) * std::size_t(spec.height); ++pixel) {
    canvas.rgb.insert(canvas.rgb.end(), spec.pad_rgb.begin(), spec.pad_rgb.end());
  }
  for (int y = 0; y < inner.height; ++y) {
    std::copy_n(inner.row(y), 3 * inner.width, canvas.row(place.top + y) + 3 * place.left);
  }
  return canvas;
}

std::vector<float> to_pixels(const Picture& picture, const ImageSpec& spec) {
  const Picture fitted = fit(picture, spec);
  const std::size_t area = std::size_t(spec.width) * std::size_t(spec.height);
  std::vector<float> pixels(3 * area);
  for (std::size_t pixel = 0; pixel < area; ++pixel) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      pixels[channel * area + pixel] = fitted.rgb[pixel * 3 + channel];
    }
  }
  return pixels;
}

}  // namespace vlmp
