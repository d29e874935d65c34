// What stands around the pixels of a PNG or JPEG file, and whether the file is whole.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vlmp {

inline constexpr unsigned kGrey = 0, kRgb = 2;  // types of colour without alpha and palette
using Colour = std::array<std::uint16_t, 3>;

struct Container {
  int orientation = 1;  // as EXIF counts: 1 to 8
  std::uint64_t width = 0, height = 0;
  // Of PNG:
  unsigned depth = 0, colour = 0;    // bits of a sample, type of colour
  std::uint64_t inflated_bytes = 0;  // of all rows, as stb_image reckons them
  std::optional<Colour> clear;       // the transparent colour of grey and RGB, of 16 bits where samples are, else of 8
};

// Walks the chunks or segments. Throws Error naming `where` when the format is another one, or the file is damaged or
// cut off, or it is a CMYK JPEG.
Container read_container(std::string_view bytes, const std::string& where);

}  // namespace vlmp
