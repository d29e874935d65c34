// Numbers in the bytes of a file.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace vlmp {

using Bytes = std::string_view;

// Unsigned of `size` bytes at `place`; nothing when they are not all there.
inline std::optional<std::uint64_t> number(Bytes bytes, std::uint64_t place, unsigned size, bool little = false) {
  if (place > bytes.size() || bytes.size() - place < size) return std::nullopt;
  std::uint64_t value = 0;
  for (unsigned index = 0; index < size; ++index) {
    const unsigned at = little ? size - 1 - index : index;
    value = (value << 8) | static_cast<unsigned char>(bytes[place + at]);
  }
  return value;
}

inline bool starts_with(Bytes bytes, Bytes start) { return bytes.substr(0, start.size()) == start; }

}  // namespace vlmp
