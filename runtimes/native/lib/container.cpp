#include "container.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "bytes.h"
#include "error.h"
#include "orientation.h"
#include "stb.h"

namespace vlmp {
namespace {

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kCompareSums = false;  // no fuzzer finds a checksum
#else
constexpr bool kCompareSums = true;
#endif
constexpr Bytes kPng("\x89PNG\r\n\x1a\n", 8), kXmp("http://ns.adobe.com/xap/1.0/\0", 29);

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

// A text of a PNG file, perhaps compressed.
struct Words {
  std::string text() const {
    if (!packed) return std::string(bytes);
    std::string text(std::size_t{1} << 20, '\0');  // longer ones are refused by Pillow
    const int size = stbi_zlib_decode_buffer(text.data(), static_cast<int>(text.size()), bytes.data(),
                                             static_cast<int>(bytes.size()));
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }

  Bytes keyword, bytes;
  bool packed;
};

Words read_words(Bytes kind, Bytes data) {
  const auto skip = [&](std::size_t count) { data.remove_prefix(std::min(count, data.size())); };
  const auto field = [&] {  // up to the next zero byte
    const Bytes found = data.substr(0, data.find('\0'));
    skip(found.size() + 1);
    return found;
  };
  const Bytes keyword = field();
  if (kind == "tEXt") return {keyword, data, false};
  const bool packed = kind == "zTXt" || number(data, 0, 1).value_or(0) != 0;
  skip(kind == "iTXt" ? 1 : 0);
  const bool known = number(data, 0, 1) == std::uint64_t{0};  // the one way of packing
  skip(1);
  if (kind == "iTXt") field(), field();  // language, translated keyword
  return {keyword, packed && !known ? Bytes() : data, packed};
}

// The EXIF block in "\nexif\n  <size>\n<hexadecimal digits>", as ImageMagick writes it.
std::string from_profile(const std::string& text) {
  std::size_t place = 0;
  for (int line = 0; line < 3 && place != std::string::npos; ++line) place = text.find('\n', place + (line > 0));
  std::string block, digits;
  for (; place < text.size(); ++place) {
    if (std::isxdigit(static_cast<unsigned char>(text[place])) != 0) digits += text[place];
    if (digits.size() < 2) continue;
    block += static_cast<char>(std::stoi(digits, nullptr, 16));
    digits.clear();
  }
  return block;
}

void read_header(Bytes data, Container& container) {
  constexpr std::array<unsigned, 7> kChannels = {1, 0, 3, 1, 2, 0, 4};
  container.width = number(data, 0, 4).value_or(0);
  container.height = number(data, 4, 4).value_or(0);
  container.depth = static_cast<unsigned>(number(data, 8, 1).value_or(0));
  container.colour = static_cast<unsigned>(number(data, 9, 1).value_or(0));
  const unsigned channels = container.colour < kChannels.size() ? kChannels[container.colour] : 0;
  container.inflated_bytes = ((container.width * container.depth + 7) / 8 * channels + 1) * container.height;
}

// It is written in samples as the file has them; of smaller ones than 16 bits the low bits count.
std::optional<Colour> clear_colour(Bytes data, const Container& container, const std::string& where) {
  if (container.colour != kGrey && container.colour != kRgb) return std::nullopt;
  Colour colour{};
  for (std::size_t channel = 0; channel < colour.size(); ++channel) {
    const auto value = number(data, container.colour == kGrey ? 0 : 2 * channel, 2);
    if (!value) fail("image ", where, " cannot be read: its clear colour is cut off");
    const unsigned top = (1u << std::min(container.depth, 16u)) - 1, sample = static_cast<unsigned>(*value) & top;
    // Of one bit, Pillow takes any number but 0 for white.
    if (container.depth == 1) {
      colour[channel] = *value != 0 ? 255 : 0;
    } else {
      colour[channel] = static_cast<std::uint16_t>(container.depth < 8 && top != 0 ? sample * (255 / top) : sample);
    }
  }
  return colour;
}

Container read_png(Bytes bytes, const std::string& where) {
  Container container;
  Words profile{}, xmp{};
  std::optional<std::string> exif;
  for (std::size_t place = kPng.size();;) {
    const auto length = number(bytes, place, 4);
    if (!length || bytes.size() - place < 12 || bytes.size() - place - 12 < *length) {
      fail("image ", where, " cannot be read: the file is cut off");
    }
    const Bytes checked = bytes.substr(place + 4, 4 + *length);
    const Bytes kind = checked.substr(0, 4), data = checked.substr(4);
    if (kCompareSums && crc32(checked) != *number(bytes, place + 8 + *length, 4)) {
      fail("image ", where, " cannot be read: a checksum in it is wrong");
    }
    if (kind == "IHDR") read_header(data, container);
    if (kind == "tRNS") container.clear = clear_colour(data, container, where);
    if (kind == "eXIf") exif = std::string(kExif).append(data);
    if (kind == "tEXt" || kind == "zTXt" || kind == "iTXt") {  // the last one of each holds
      const Words words = read_words(kind, data);
      if (words.keyword == "exif" && kind == "tEXt") exif = words.text();
      if (words.keyword == "Raw profile type exif") profile = words;
      if (words.keyword == "XML:com.adobe.xmp") xmp = words;
    }
    if (kind == "IEND") break;
    place += 12 + *length;
  }
  container.orientation = orientation_of(exif ? *exif : from_profile(profile.text()), xmp.text());
  return container;
}

Container read_jpeg(Bytes bytes, const std::string& where) {
  constexpr unsigned kEnd = 0xD9, kScan = 0xDA, kApplication1 = 0xE1;
  Container container;
  std::string exif;
  Bytes xmp;
  bool scanned = false;  // Pillow reads on from there for the pixels alone
  const auto cut_off = [&] { fail("image ", where, " cannot be read: the file is cut off"); };
  for (std::size_t place = 2;;) {
    // What is between segments is the picture itself, in which 0xFF 0 stands for a byte.
    while (place < bytes.size() && bytes[place] != '\xff') ++place;
    while (place < bytes.size() && bytes[place] == '\xff') ++place;
    const auto marker = number(bytes, place++, 1);
    if (!marker) cut_off();
    if (*marker == kEnd) break;
    if (*marker <= 1 || (*marker >= 0xD0 && *marker <= 0xD8)) continue;  // without a length
    const auto length = number(bytes, place, 2);
    if (!length || *length < 2 || bytes.size() - place < *length) cut_off();
    const Bytes data = bytes.substr(place + 2, *length - 2);
    if (*marker == kScan) scanned = true;
    if (*marker == kApplication1 && !scanned) {
      if (starts_with(data, kExif)) exif.append(exif.empty() ? data : data.substr(kExif.size()));
      if (starts_with(data, kXmp)) xmp = data.substr(kXmp.size());
    }
    const bool frame = *marker >= 0xC0 && *marker <= 0xCF && *marker != 0xC4 && *marker != 0xC8 && *marker != 0xCC;
    if (frame) {
      container.height = number(data, 1, 2).value_or(0);
      container.width = number(data, 3, 2).value_or(0);
      if (number(data, 5, 1) == 4u) fail("image ", where, " is a CMYK JPEG: save it as RGB");
    }
    place += *length;
  }
  container.orientation = orientation_of(exif, xmp);
  return container;
}

}  // namespace

Container read_container(Bytes bytes, const std::string& where) {
  if (starts_with(bytes, kPng)) return read_png(bytes, where);
  if (starts_with(bytes, "\xff\xd8\xff")) return read_jpeg(bytes, where);
  fail("image ", where, " is neither PNG nor JPEG: these two are read");
}

}  // namespace vlmp
