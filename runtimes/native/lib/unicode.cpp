#include "unicode.h"

#include <algorithm>
#include <iterator>

#include "unicode_tables.h"

namespace vlmp {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr unsigned kLeadCount = 19, kVowelCount = 21, kTailCount = 28, kSyllableCount = 11172;

// What stands at the beginning of `bytes`: a code point, or the beginning of one that is not completed.
struct Decoded {
  char32_t point;
  unsigned length;  // bytes, at least 1
  bool valid;
};

Decoded decode(std::string_view bytes) {
  const auto byte = [&](std::size_t index) -> unsigned { return static_cast<unsigned char>(bytes[index]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  if (lead < 0xC2 || lead > 0xF4) return {kReplacement, 1, false};
  const unsigned length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte excludes overlong forms, surrogates and what is above U+10FFFF.
  unsigned low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  char32_t point = lead & (0xFFu >> (length + 1));
  for (unsigned index = 1; index < length; ++index) {
    if (index >= bytes.size() || byte(index) < low || byte(index) > high) return {kReplacement, index, false};
    point = (point << 6) | (byte(index) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {point, length, true};
}

void append_utf8(std::string& text, char32_t point) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | (point >> 6));
    put(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    put(0xE0 | (point >> 12));
    put(0x80 | ((point >> 6) & 0x3F));
    put(0x80 | (point & 0x3F));
  } else {
    put(0xF0 | (point >> 18));
    put(0x80 | ((point >> 12) & 0x3F));
    put(0x80 | ((point >> 6) & 0x3F));
    put(0x80 | (point & 0x3F));
  }
}

// The entry of a sorted table of ranges that holds `point`, or null.
template <typename Entry, std::size_t Size>
const Entry* find_range(const Entry (&table)[Size], char32_t point) {
  const Entry* entry = std::lower_bound(std::begin(table), std::end(table), point,
                                        [](const Entry& range, char32_t value) { return range.last < value; });
  return entry != std::end(table) && entry->first <= point ? entry : nullptr;
}

unsigned combining_class(char32_t point) {
  const auto* mark = find_range(tables::kMarks, point);
  return mark == nullptr ? 0 : mark->combining_class;
}

void append_decomposed(std::u32string& points, char32_t point) {
  if (point >= kSyllables && point < kSyllables + kSyllableCount) {
    const unsigned index = point - kSyllables;
    points.push_back(kLeads + index / (kVowelCount * kTailCount));
    points.push_back(kVowels + index / kTailCount % kVowelCount);
    if (index % kTailCount != 0) points.push_back(kTails + index % kTailCount);
    return;
  }
  const auto* entry =
      std::lower_bound(std::begin(tables::kDecompositions), std::end(tables::kDecompositions), point,
                       [](const tables::Decomposition& one, char32_t value) { return one.composed < value; });
  if (entry == std::end(tables::kDecompositions) || entry->composed != point) {
    points.push_back(point);
  } else {
    points.append(&tables::kParts[entry->start], entry->length);
  }
}

// The composition of two code points, or 0.
char32_t composed(char32_t first, char32_t second) {
  if (first >= kLeads && first < kLeads + kLeadCount && second >= kVowels && second < kVowels + kVowelCount) {
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  }
  if (first >= kSyllables && first < kSyllables + kSyllableCount && (first - kSyllables) % kTailCount == 0 &&
      second > kTails && second < kTails + kTailCount) {
    return first + (second - kTails);
  }
  const auto* entry = std::lower_bound(std::begin(tables::kCompositions), std::end(tables::kCompositions), 0,
                                       [&](const tables::Composition& one, int) {
                                         return one.first < first || (one.first == first && one.second < second);
                                       });
  const bool found = entry != std::end(tables::kCompositions) && entry->first == first && entry->second == second;
  return found ? entry->composed : 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Decoded next = decode(text);
    if (!next.valid) return false;
    text.remove_prefix(next.length);
  }
  return true;
}

std::u32string to_points(std::string_view utf8) {
  std::u32string points;
  points.reserve(utf8.size());
  while (!utf8.empty()) {
    const Decoded next = decode(utf8);
    points.push_back(next.point);
    utf8.remove_prefix(next.length);
  }
  return points;
}

std::string to_utf8(std::u32string_view points) {
  std::string text;
  text.reserve(points.size());
  for (const char32_t point : points) append_utf8(text, point);
  return text;
}

std::string to_valid_utf8(std::string_view bytes) { return to_utf8(to_points(bytes)); }

bool is_letter(char32_t point) { return find_range(tables::kLetters, point) != nullptr; }
bool is_number(char32_t point) { return find_range(tables::kNumbers, point) != nullptr; }
bool is_space(char32_t point) { return find_range(tables::kSpaces, point) != nullptr; }
bool is_other_number(char32_t point) { return find_range(tables::kOtherNumbers, point) != nullptr; }

std::u32string compose(const std::u32string& points) {
  std::u32string apart;
  apart.reserve(points.size());
  for (const char32_t point : points) append_decomposed(apart, point);
  for (auto begin = apart.begin(); begin != apart.end();) {  // marks between two starters: by class, stable
    const auto end = std::find_if(begin, apart.end(), [](char32_t point) { return combining_class(point) == 0; });
    std::stable_sort(begin, end, [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    begin = end == apart.end() ? end : end + 1;
  }
  std::u32string result;
  result.reserve(apart.size());
  std::size_t starter = std::u32string::npos;
  unsigned blocked = 0;  // class of the last mark that stayed behind the starter
  for (const char32_t point : apart) {
    const unsigned own = combining_class(point);
    const bool adjacent = starter != std::u32string::npos && result.size() == starter + 1;
    if (starter != std::u32string::npos && (adjacent || blocked < own)) {
      if (const char32_t whole = composed(result[starter], point); whole != 0) {
        result[starter] = whole;
        continue;
      }
    }
    if (own == 0) starter = result.size();
    blocked = own;
    result.push_back(point);
  }
  return result;
}

std::string in_quotes(const std::string& text) {
  std::u32string points = to_points(std::string_view(text).substr(0, 80));
  for (char32_t& point : points) {
    if (point < 0x20 || point == 0x7F || point == kReplacement) point = U'?';
  }
  return "'" + to_utf8(points) + (text.size() > 80 ? "...'" : "'");
}

}  // namespace vlmp
