// What stands around the pixels of a PNG or JPEG file, and whether the file is whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vlmp {

struct Container {
  int orientation = 1;  // as EXIF counts: 1 to 8
  std::uint64_t width = 0, height = 0;
  // Of PNG:
  bool wide_grey = false;            // 16-bit grey without alpha
  std::uint64_t inflated_bytes = 0;  // of all rows, as stb_image reckons them
};

// Walks the chunks or segments. Throws Error naming `where` when the format is another one, or the file is damaged or
// cut off, or it is a CMYK JPEG.
Container read_container(std::string_view bytes, const std::string& where);

}  // namespace vlmp
