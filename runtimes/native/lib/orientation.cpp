#include "orientation.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

namespace vlmp {
namespace {

constexpr std::uint64_t kTag = 0x0112;
constexpr int kUpright = 1;
enum Type { kByte = 1, kAscii = 2, kRational = 5, kUndefined = 7, kSignedRational = 10, kFloat = 11, kDouble = 12 };

// Bytes of one value of each TIFF type; 0 where there is no such type.
constexpr std::array<unsigned, 17> kSizes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};

template <typename Real, typename Bits>
double real(Bits bits) {
  Real value;
  static_assert(sizeof value == sizeof bits);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The first of an entry's values. Of whole numbers the sign does not matter: none from 1 to 8 has one.
double first_value(Bytes data, std::uint64_t type, bool little) {
  const auto whole = [&](std::size_t place, unsigned size) { return number(data, place, size, little).value_or(0); };
  const auto high = static_cast<std::uint32_t>(whole(0, 4)), low = static_cast<std::uint32_t>(whole(4, 4));
  switch (type) {
    case kByte:
    case kAscii:
    case kUndefined: return kUpright;  // texts, for Pillow
    case kRational: return double(high) / low;
    case kSignedRational: return double(std::int32_t(high)) / std::int32_t(low);
    case kFloat: return real<float>(high);
    case kDouble: return real<double>(whole(0, 8));
    default: return static_cast<double>(whole(0, kSizes[type]));
  }
}

int checked(double value) {
  for (int known = 1; known <= 8; ++known) {
    if (value == known) return known;
  }
  return kUpright;
}

// Nothing when there is no such entry before the end or the damage.
std::optional<int> from_exif(Bytes exif) {
  for (int mark = 0; mark < 2 && starts_with(exif, kExif); ++mark) exif.remove_prefix(kExif.size());
  if (exif.empty()) return std::nullopt;
  constexpr std::array<Bytes, 4> kHeads = {Bytes("MM\0*", 4), Bytes("II*\0", 4), Bytes("MM*\0", 4), Bytes("II\0*", 4)};
  const bool little = exif[0] == 'I';
  const auto directory = number(exif, 4, 4, little);
  const auto is_head = [&](Bytes head) { return starts_with(exif, head); };
  if (!directory || std::none_of(kHeads.begin(), kHeads.end(), is_head)) return kUpright;  // XMP is not asked then
  const std::uint64_t entries = number(exif, *directory, 2, little).value_or(0);
  std::set<std::uint64_t> seen;
  std::uint64_t sum = 0;  // of the data that lie elsewhere
  for (std::uint64_t place = *directory + 2; place < *directory + 2 + 12 * entries; place += 12) {
    const auto tag = number(exif, place, 2, little), type = number(exif, place + 2, 2, little);
    const auto count = number(exif, place + 4, 4, little), offset = number(exif, place + 8, 4, little);
    if (!offset) return std::nullopt;
    if (seen.count(*tag) != 0 || *type >= kSizes.size()) continue;
    const std::uint64_t size = *count * kSizes[*type];
    if (size == 0) continue;
    if (size > 4) {
      sum += size;
      if (sum > exif.size()) continue;
      if (*offset > exif.size() || exif.size() - *offset < size) return std::nullopt;
    }
    if (*tag == kTag) return checked(first_value(exif.substr(size > 4 ? *offset : place + 8, size), *type, little));
    seen.insert(*tag);
  }
  return std::nullopt;
}

int from_xmp(Bytes xmp) {
  constexpr Bytes kName = "tiff:Orientation";
  for (std::size_t place = 0; (place = xmp.find(kName, place)) != Bytes::npos;) {
    place += kName.size();
    Bytes rest = xmp.substr(place);
    if (!starts_with(rest, "=\"") && !starts_with(rest, ">")) continue;
    rest.remove_prefix(rest[0] == '>' ? 1 : 2);
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return checked(rest[0] - '0');
  }
  return kUpright;
}

}  // namespace

int orientation_of(Bytes exif, Bytes xmp) {
  const auto told = from_exif(exif);
  return told ? *told : from_xmp(xmp);
}

}  // namespace vlmp
