#include "container.h"

#include <array>
#include <cstdint>
#include <optional>

#include "error.h"

namespace vlmp {
namespace {

using Bytes = std::string_view;

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kCompareSums = false;  // no fuzzer finds a checksum
#else
constexpr bool kCompareSums = true;
#endif
constexpr Bytes kPng("\x89PNG\r\n\x1a\n", 8), kExif("Exif\0\0", 6);

// Unsigned of `size` bytes at `place`; nothing when they are not all there.
std::optional<std::uint32_t> number(Bytes bytes, std::size_t place, unsigned size, bool little = false) {
  if (place > bytes.size() || bytes.size() - place < size) return std::nullopt;
  std::uint32_t value = 0;
  for (unsigned index = 0; index < size; ++index) {
    const unsigned at = little ? size - 1 - index : index;
    value = (value << 8) | static_cast<unsigned char>(bytes[place + at]);
  }
  return value;
}

// The orientation in an EXIF block; 1 when it tells none, or none that exists.
int orientation_of(Bytes exif) {
  constexpr unsigned kTag = 0x0112, kShort = 3;
  const bool little = exif.substr(0, 2) == "II";
  if (!little && exif.substr(0, 2) != "MM") return 1;
  const auto directory = number(exif, 4, 4, little);
  const auto entries = directory ? number(exif, *directory, 2, little) : std::nullopt;
  for (std::uint32_t index = 0; index < entries.value_or(0); ++index) {
    const std::size_t entry = std::size_t{*directory} + 2 + 12 * std::size_t{index};
    const auto tag = number(exif, entry, 2, little), type = number(exif, entry + 2, 2, little);
    const auto value = number(exif, entry + 8, 2, little);
    if (!tag || !type || !value) return 1;
    if (*tag == kTag && *type == kShort) return *value >= 1 && *value <= 8 ? static_cast<int>(*value) : 1;
  }
  return 1;
}

std::uint32_t crc32(Bytes bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> values{};
    for (std::uint32_t index = 0; index < 256; ++index) {
      std::uint32_t value = index;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
      values[index] = value;
    }
    return values;
  }();
  std::uint32_t sum = 0xFFFFFFFFu;
  for (const char byte : bytes) sum = table[(sum ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (sum >> 8);
  return sum ^ 0xFFFFFFFFu;
}

Container read_png(Bytes bytes, const std::string& where) {
  Container container{Format::png};
  for (std::size_t place = kPng.size();;) {
    const auto length = number(bytes, place, 4);
    if (!length || bytes.size() - place < 12 || bytes.size() - place - 12 < *length) {
      fail("image ", where, " cannot be read: the file is cut off");
    }
    const Bytes checked = bytes.substr(place + 4, 4 + std::size_t{*length});
    const Bytes kind = checked.substr(0, 4), data = checked.substr(4);
    if (kCompareSums && crc32(checked) != *number(bytes, place + 8 + *length, 4)) {
      fail("image ", where, " cannot be read: a checksum in it is wrong");
    }
    if (kind == "IHDR") {
      container.width = number(data, 0, 4).value_or(0);
      container.height = number(data, 4, 4).value_or(0);
      container.wide_grey = data.size() >= 10 && data[8] == 16 && data[9] == 0;
    }
    if (kind == "eXIf") container.orientation = orientation_of(data);
    if (kind == "IEND") return container;
    place += 12 + std::size_t{*length};
  }
}

Container read_jpeg(Bytes bytes, const std::string& where) {
  constexpr unsigned kEnd = 0xD9, kExifSegment = 0xE1;
  Container container{Format::jpeg};
  const auto cut_off = [&] { fail("image ", where, " cannot be read: the file is cut off"); };
  for (std::size_t place = 2;;) {
    // What is between segments is the picture itself, in which 0xFF 0 stands for a byte.
    while (place < bytes.size() && bytes[place] != '\xff') ++place;
    while (place < bytes.size() && bytes[place] == '\xff') ++place;
    const auto marker = number(bytes, place++, 1);
    if (!marker) cut_off();
    if (*marker == kEnd) return container;
    if (*marker <= 1 || (*marker >= 0xD0 && *marker <= 0xD8)) continue;  // without a length
    const auto length = number(bytes, place, 2);
    if (!length || *length < 2 || bytes.size() - place < *length) cut_off();
    const Bytes data = bytes.substr(place + 2, *length - 2);
    if (*marker == kExifSegment && data.substr(0, kExif.size()) == kExif) {
      container.orientation = orientation_of(data.substr(kExif.size()));
    }
    const bool frame = *marker >= 0xC0 && *marker <= 0xCF && *marker != 0xC4 && *marker != 0xC8 && *marker != 0xCC;
    if (frame) {
      container.height = number(data, 1, 2).value_or(0);
      container.width = number(data, 3, 2).value_or(0);
      if (number(data, 5, 1) == 4u) fail("image ", where, " is a CMYK JPEG: save it as RGB");
    }
    place += *length;
  }
}

}  // namespace

Container read_container(Bytes bytes, const std::string& where) {
  if (bytes.substr(0, kPng.size()) == kPng) return read_png(bytes, where);
  if (bytes.substr(0, 3) == "\xff\xd8\xff") return read_jpeg(bytes, where);
  fail("image ", where, " is neither PNG nor JPEG: this runner reads these two");
}

}  // namespace vlmp
