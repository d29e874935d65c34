// A photo file becomes the input of `vision`: RGB, upright, fitted to the bundle's size. As runtimes/image.py does it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "manifest.h"

namespace vlmp {

// Interleaved RGB, 8 bits each, rows from the top.
struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;

  static Picture blank(int width, int height) {
    return {width, height, std::vector<std::uint8_t>(std::size_t(width) * std::size_t(height) * 3)};
  }

  const std::uint8_t* row(int y) const { return rgb.data() + std::size_t(y) * std::size_t(width) * 3; }
  std::uint8_t* row(int y) { return rgb.data() + std::size_t(y) * std::size_t(width) * 3; }
};

inline constexpr std::int64_t kMostPixels = 100'000'000;

// Throws Error naming `where` when a picture has more pixels, or a side more than 200 times the other.
void check_size(std::uint64_t width, std::uint64_t height, const std::string& where,
                std::int64_t most_pixels = kMostPixels);

// Decodes PNG or JPEG: rotated by EXIF, alpha over white, 16-bit converted. Throws Error naming `where` when it is in
// another format, damaged, CMYK, too large, or has a side more than 200 times the other.
Picture decode_picture(std::string_view bytes, const std::string& where, std::int64_t most_pixels = kMostPixels);

Picture open_picture(const std::filesystem::path& path);

// Pillow's resampling, to the bit.
Picture resize(const Picture& picture, int width, int height, Resample resample);

// Where a photo lies in the picture that the model sees, in pixels of it.
struct Place {
  int left = 0, top = 0, width = 0, height = 0;
};
Place placement(const Picture& picture, const ImageSpec& spec);

// Resized to the bundle's size, with bars of `pad_rgb` where the aspect ratio differs and the bundle pads.
Picture fit(const Picture& picture, const ImageSpec& spec);

// [1, 3, height, width], values 0..255.
std::vector<float> to_pixels(const Picture& picture, const ImageSpec& spec);

}  // namespace vlmp
